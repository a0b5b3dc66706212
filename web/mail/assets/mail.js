// The webmail, livelier: choosing, keys, dragging, drafts saved as one types, files with progress, news. All of it
// works as links and forms too.
import { say, visit } from "asset:app.js";

const $ = (s, root = document) => root.querySelector(s), $$ = (s, root = document) => [...root.querySelectorAll(s)];
const main = $("main"), text = (name) => main.dataset["text" + name];
let at = -1, stood; // the row that j and k stand on, and where it leads

const rows = () => $$(".rows-of-mail > .mail");
function stand(i) {
  const all = rows();
  if (!all.length) return;
  at = Math.max(0, Math.min(all.length - 1, i));
  all.forEach((r, n) => r.classList.toggle("at", n === at));
  const a = $("a", all[at]);
  stood = a.href;
  a.focus();
  all[at].scrollIntoView({ block: "nearest" });
}

// Choosing: all at once, and with shift from one to another.
let last;
addEventListener("change", (e) => {
  if (e.target.matches("[data-all]")) for (const c of $$('.mails [name="sel"]')) c.checked = e.target.checked;
});
addEventListener("click", (e) => {
  const box = e.target.closest?.('.mails [name="sel"]');
  if (!box) return;
  const all = $$('.mails [name="sel"]');
  if (e.shiftKey && last && document.contains(last)) {
    const [a, b] = [all.indexOf(last), all.indexOf(box)].sort((x, y) => x - y);
    for (const c of all.slice(a, b + 1)) c.checked = box.checked;
  }
  last = box;
});

// Keys. None of them while one types, and none with a modifier.
let led = "";
addEventListener("keydown", (e) => {
  const typing = e.target.closest?.("input:not([type=checkbox]), textarea, select, dialog");
  if ((e.ctrlKey || e.metaKey) && e.key === "Enter" && e.target.closest?.(".write")) return $('[value="send"]').click();
  if (e.key === "Escape" && !typing && !$("details.menu[open]")) return $(".reader .back")?.click();
  if (typing || e.ctrlKey || e.metaKey || e.altKey) return;
  const key = led + e.key, open = $(".thread");
  led = e.key === "g" && !led ? "g" : "";
  const go = {
    c: () => $("#compose").click(),
    "/": () => $("#q").focus(),
    "?": () => $("#keys").showModal(),
    gi: () => $(".side a[data-box]").click(),
    j: () => step(1),
    k: () => step(-1),
    x: () => $('[name="sel"]', rows()[at] ?? document)?.click(),
    o: () => rows()[at] && $("a", rows()[at]).click(),
  }[key] ?? (open && act(key)) ?? ({ e: "archive", "#": "trash", "!": "junk", s: "flag", u: "unread" }[key] && (() => onRows({ e: "archive", "#": "trash", "!": "junk", s: "flag", u: "unread" }[key])));
  if (!go) return;
  e.preventDefault();
  go();
});
const act = (key) => {
  const button = $(`.reading [data-key="${CSS.escape(key)}"]`);
  return button && (() => button.click());
};
function step(by) {
  const next = $(".thread") && getComputedStyle($(".list")).display !== "none" ? $(`.reader [data-key="${by > 0 ? "j" : "k"}"]`) : null;
  if (next) return next.click();
  if (at < 0) at = rows().findIndex((r) => r.classList.contains("open"));
  stand(at + by);
}
function onRows(what) {
  const chosen = $$('.mails [name="sel"]:checked');
  if (!chosen.length && rows()[at]) $('[name="sel"]', rows()[at]).checked = true;
  else if (!chosen.length) return;
  ($(`.mails [value="${what}"]`) ?? $('.mails [value="delete"]'))?.click();
}

// Dragging to a mailbox.
addEventListener("dragstart", (e) => {
  const row = e.target.closest?.(".mail");
  if (!row) return;
  const box = $('[name="sel"]', row);
  if (!box.checked) for (const c of $$('.mails [name="sel"]')) c.checked = c === box;
  e.dataTransfer.setData("text/x-trivet-mail", "chosen");
  e.dataTransfer.effectAllowed = "move";
});
const target = (e) => e.dataTransfer.types.includes("text/x-trivet-mail") && e.target.closest?.(".side a[data-box]");
addEventListener("dragover", (e) => {
  const a = target(e);
  for (const other of $$(".side a.drop")) other.classList.toggle("drop", other === a);
  if (a) (a.classList.add("drop"), e.preventDefault());
});
addEventListener("drop", (e) => {
  const a = target(e), form = $("#mails");
  if (!a || !form) return;
  e.preventDefault();
  a.classList.remove("drop");
  const data = new URLSearchParams(new FormData(form));
  data.set("do", "move:" + a.dataset.box);
  visit("/mail/act", { body: data });
});

// Writing: drafts are saved as one types, and files at once.
const wait = (octets) => (octets > 2e6 ? 30000 : 2500); // a draft with files is large, and is saved less often
let timer, saving, dirty = false;
function form() {
  return $("#write");
}
async function save(file) {
  const f = form();
  if (!f || saving) return;
  clearTimeout(timer);
  dirty = false;
  const data = new FormData(f);
  if (!file) data.delete("file");
  data.set("do", "save");
  const bar = $("progress", f), out = $("output", f);
  if (file) (bar.hidden = false), (out.textContent = text("Files"));
  const answer = await (saving = new Promise((done) => {
    const x = new XMLHttpRequest();
    x.open("POST", f.action);
    x.upload.onprogress = (e) => (bar.value = e.loaded / e.total);
    x.onloadend = () => done(x);
    x.send(data);
  }));
  saving = null;
  bar.hidden = true;
  if (form() !== f) return;
  const page = new DOMParser().parseFromString(answer.responseText ?? "", "text/html"), fresh = $("#write", page);
  if (answer.status !== 200 || !fresh) {
    dirty = true;
    return say($("main h1, main .fail", page)?.textContent ?? document.documentElement.dataset.offline);
  }
  f.elements.draft.value = fresh.elements.draft.value;
  history.replaceState(null, "", answer.responseURL);
  out.textContent = text("Saved");
  if (file) {
    f.elements.file.value = "";
    $("footer .files", f)?.remove();
    const list = $("footer .files", fresh);
    if (list) $("footer", f).prepend(document.adoptNode(list));
  }
  if (dirty) later();
}
function later() {
  dirty = true;
  clearTimeout(timer);
  const size = $$("#write .files .hint").length ? 3e6 : 0;
  timer = setTimeout(save, wait(size));
}
addEventListener("input", (e) => {
  if (e.target.closest?.("#write") && e.target.type !== "file") later();
});
addEventListener("change", (e) => {
  if (e.target.matches?.('#write [type="file"]') && e.target.files.length) save(true);
});
for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, (e) => {
  const f = e.target.closest?.("#write");
  if (!f || !e.dataTransfer.types.includes("Files")) return;
  e.preventDefault();
  f.classList.toggle("over", kind === "dragover");
  if (kind === "drop") (f.elements.file.files = e.dataTransfer.files), save(true);
});
addEventListener("submit", async (e) => {
  if (e.target.id !== "write") return;
  clearTimeout(timer);
  dirty = false;
  if (!saving) return;
  e.preventDefault(); // first what is under way, or there would be two drafts
  const by = e.submitter;
  await saving;
  e.target.requestSubmit(by);
}, true);
addEventListener("beforeunload", (e) => dirty && form() && e.preventDefault());

// Completing addresses within a list of them: the browser does it for the first only.
customElements.define("mail-people", class extends HTMLElement {
  connectedCallback() {
    const input = $("input", this), book = document.getElementById(input.getAttribute("list"));
    input.addEventListener("input", () => {
      const cut = input.value.lastIndexOf(",") + 1, head = input.value.slice(0, cut), typed = input.value.slice(cut).trim().toLowerCase();
      let own = $("datalist", this);
      if (!cut) return own?.remove(), input.setAttribute("list", "book");
      if (!own) (own = document.createElement("datalist")).id = input.id + "-book", this.append(own), input.setAttribute("list", own.id);
      own.replaceChildren(...[...(book?.options ?? [])].filter((o) => typed && o.value.toLowerCase().includes(typed)).slice(0, 8).map((o) => new Option("", head + " " + o.value)));
    });
  }
});

// News: numbers at once; the list when nothing in it is chosen and nobody writes.
addEventListener("tv:count", (e) => {
  for (const [id, n] of Object.entries(e.detail.boxes)) {
    const place = $(`[data-count="${id}"]`);
    if (!place) continue;
    place.textContent = n || "";
    if (n) place.append(Object.assign(document.createElement("span"), { className: "sight", textContent: " " + text("Unread") }));
  }
  if (e.detail.state !== main.dataset.state && $("#mails, .list .empty")) refresh();
});
let soon;
function refresh() {
  clearTimeout(soon);
  soon = setTimeout(() => {
    if (!form() && !$('.mails [name="sel"]:checked') && !$("details.menu[open], dialog[open]")) visit(location.href, { keep: true, quiet: true });
  }, 400);
}
addEventListener("tv:mail", ({ detail }) => {
  if (document.visibilityState === "visible" && document.hasFocus()) return say(text("Mail").replace("%s", detail.from) + " " + detail.subject);
  if (globalThis.Notification?.permission !== "granted" || localStorage.getItem("trivet-notify") !== "on") return;
  const n = new Notification(detail.from, { body: detail.subject, tag: detail.path });
  n.onclick = () => (focus(), visit(detail.path), n.close());
});
customElements.define("mail-notify", class extends HTMLElement {
  connectedCallback() {
    if (!globalThis.Notification) return;
    this.hidden = false;
    $("button", this).onclick = async () => {
      if ((await Notification.requestPermission()) !== "granted") return;
      localStorage.setItem("trivet-notify", "on");
      say(text("Notify"));
    };
  }
});

function shown() {
  document.body.classList.add("live");
  for (const r of rows()) r.draggable = true;
  const u = new URL(location.href);
  if (u.searchParams.has("did")) {
    for (const p of ["did", "n", "undo", "to", "out"]) if (p !== "to" || !location.pathname.endsWith("/compose")) u.searchParams.delete(p);
    history.replaceState(null, "", u);
  }
}
document.addEventListener("tv:shown", () => {
  const all = rows();
  at = all.findIndex((r) => $("a", r).href === stood);
  all[at]?.classList.add("at");
  if (at < 0) at = all.findIndex((r) => r.classList.contains("open"));
  shown();
});
shown();

// What all pages share. Every page works without it; with it, links and forms inside of [data-live] change only
// the parts of the page that differ, and news arrive by themselves. Modules of rooms import from it
// by the name "asset:app.js".

/** say shows a message for a while; action is an element to show beside it. */
export function say(text, action, seconds = 6) {
  let place = document.querySelector(".toasts");
  if (!place) {
    place = document.createElement("div");
    place.className = "toasts";
    place.setAttribute("role", "status");
    place.dataset.live = "";
    document.body.append(place);
  }
  const toast = document.createElement("div"), p = document.createElement("p");
  toast.className = "toast";
  p.textContent = text;
  toast.append(p, ...(action ? [action] : []));
  place.replaceChildren(toast);
  setTimeout(() => toast.remove(), seconds * 1000);
}

// parts are the elements that are exchanged, by the name in data-part.
const parts = (root) => new Map([...root.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));

// exchange takes from another page what differs, and reports whether that was possible: both have the same
// [data-app]. What scrolled stays where it was if it shows the same thing (data-key).
function exchange(next) {
  const [from, to] = [next.querySelector("[data-app]"), document.querySelector("[data-app]")];
  if (!from || !to || from.dataset.app !== to.dataset.app) return false;
  const news = parts(next), focused = document.activeElement;
  const way = focused?.id ? "#" + CSS.escape(focused.id) : focused?.dataset?.focus ? `[data-focus="${focused.dataset.focus}"]` : "";
  for (const [name, old] of parts(document)) {
    const fresh = news.get(name);
    if (!fresh || fresh.isEqualNode(old) || (old.hasAttribute("data-hold") && old.dataset.key === fresh.dataset.key)) continue;
    const top = old.dataset.key === fresh.dataset.key ? old.scrollTop : 0;
    if (old.matches(":popover-open")) old.hidePopover();
    old.replaceWith(document.adoptNode(fresh));
    fresh.scrollTop = top;
  }
  for (const a of ["class", "data-pane", "data-state"]) if (from.hasAttribute(a)) to.setAttribute(a, from.getAttribute(a));
  document.title = next.title;
  if (!document.contains(focused)) (document.querySelector(way || "[data-land]") ?? document.querySelector("[data-land]"))?.focus({ preventScroll: true });
  document.dispatchEvent(new CustomEvent("tv:shown"));
  return true;
}

let asking;
/** visit shows another page of the same room; body is a form's, which is posted. A quiet one gives way to what somebody asked for. */
export async function visit(url, { body, keep = false, quiet = false } = {}) {
  if (quiet && asking) return false;
  asking?.abort();
  const mine = (asking = new AbortController());
  let answer;
  try {
    answer = await fetch(url, { method: body ? "POST" : "GET", body, signal: mine.signal, headers: { Accept: "text/html" } });
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok) {
      if (!quiet) say(next.querySelector("main h1, main .fail")?.textContent ?? answer.statusText);
      return false;
    }
    if (!exchange(next)) {
      if (!quiet) location.assign(answer.url);
      return false;
    }
    if (!keep && answer.url !== location.href) history[body ? "replaceState" : "pushState"](null, "", answer.url);
    return true;
  } catch (e) {
    if (e.name === "AbortError" || quiet) return false;
    if (body) say(document.documentElement.dataset.offline);
    else location.assign(url);
    return false;
  } finally {
    if (asking === mine) asking = null;
  }
}

addEventListener("click", (e) => {
  for (const open of document.querySelectorAll("details.menu[open]")) if (!open.contains(e.target)) open.open = false;
  const a = e.target.closest?.("[data-live] a[href]");
  if (!a || e.defaultPrevented || e.button || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey || a.target || a.hasAttribute("download")) return;
  if (a.origin !== location.origin || a.hasAttribute("data-plain") || a.getAttribute("href").startsWith("#")) return;
  e.preventDefault();
  visit(a.href);
});

addEventListener("submit", (e) => {
  const form = e.target, button = e.submitter, ask = button?.dataset.confirm ?? form.dataset.confirm;
  if (e.defaultPrevented) return;
  if (ask && !confirm(ask)) return e.preventDefault();
  if (!form.closest("[data-live]") || form.hasAttribute("data-plain") || button?.hasAttribute("data-plain")) return;
  e.preventDefault();
  const data = new FormData(form, button), url = new URL(button?.getAttribute("formaction") ?? form.getAttribute("action") ?? location.href, location.href);
  if (form.method === "get") {
    url.search = new URLSearchParams(data);
    visit(url);
  } else visit(url, { body: form.enctype === "multipart/form-data" ? data : new URLSearchParams(data) });
});

addEventListener("popstate", () => visit(location.href, { keep: true }));
addEventListener("keydown", (e) => {
  if (e.key !== "Escape") return;
  for (const open of document.querySelectorAll("details.menu[open]")) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});

// Times are shown in the zone of whoever looks, from the second page on.
try {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone) document.cookie = `trivet-zone=${encodeURIComponent(zone)}; path=/; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
} catch {}

/** <tv-events src="/room/events"> hands on what the server sends: event NAME becomes tv:NAME on the document. */
customElements.define("tv-events", class extends HTMLElement {
  connectedCallback() {
    this.source = new EventSource(this.getAttribute("src"));
    for (const name of (this.getAttribute("names") ?? "").split(" ")) {
      this.source.addEventListener(name, (e) => document.dispatchEvent(new CustomEvent("tv:" + name, { detail: JSON.parse(e.data), bubbles: true })));
    }
  }
  disconnectedCallback() {
    this.source?.close();
  }
});

/** <tv-toast> says its text when it appears, and is gone; its links and forms go with it. */
customElements.define("tv-toast", class extends HTMLElement {
  connectedCallback() {
    say(this.firstElementChild?.textContent ?? this.textContent, this.querySelector("a, form") ?? undefined, Number(this.getAttribute("seconds")) || 6);
    this.remove();
  }
});

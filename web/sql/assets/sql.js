// The console's editor: paints SQL, completes names, keeps what was asked in this browser. Without it the page has a
// textarea that does all that is needed.
import { say } from "asset:app.js";

const keywords = new Set(`ABORT ACTION ADD AFTER ALL ALTER ALWAYS ANALYZE AND AS ASC AUTOINCREMENT BEFORE BEGIN BETWEEN BY CASCADE CASE CAST CHECK COLLATE COLUMN COMMIT
CONFLICT CONSTRAINT CREATE CROSS CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP DEFAULT DEFERRABLE DEFERRED DELETE DESC DISTINCT DO DROP EACH ELSE END ESCAPE EXCEPT EXCLUDE
EXISTS EXPLAIN FAIL FILTER FIRST FOLLOWING FOR FOREIGN FROM FULL GENERATED GLOB GROUP HAVING IF IGNORE IMMEDIATE IN INDEX INDEXED INITIALLY INNER INSERT INSTEAD INTERSECT INTO
IS ISNULL JOIN KEY LAST LEFT LIKE LIMIT MATCH MATERIALIZED NATURAL NOT NOTHING NOTNULL NULL NULLS OF OFFSET ON OR ORDER OUTER OVER PARTITION PLAN PRAGMA PRECEDING PRIMARY
QUERY RAISE RANGE RECURSIVE REFERENCES REGEXP REINDEX RELEASE RENAME REPLACE RESTRICT RETURNING RIGHT ROLLBACK ROW ROWS SAVEPOINT SELECT SET STRICT TABLE TEMP THEN TO
TRANSACTION TRIGGER UNBOUNDED UNION UNIQUE UPDATE USING VACUUM VALUES VIEW VIRTUAL WHEN WHERE WINDOW WITH WITHOUT`.split(/\s+/));
const tokens = /(--[^\n]*|\/\*[\s\S]*?(?:\*\/|$))|('(?:[^']|'')*(?:'|$))|("(?:[^"]|"")*(?:"|$)|`[^`]*(?:`|$)|\[[^\]]*(?:\]|$))|([:@$][A-Za-z0-9_]+)|(\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b|\b0x[0-9a-fA-F]+\b)|([A-Za-z_][A-Za-z0-9_$]*)|([\s\S])/g;
const kinds = [, "note", "text", "", "given", "figure"];
const remembered = 100; // statements, of each database
const longestRemembered = 4000;

function paint(place, sql) {
  const out = document.createDocumentFragment();
  for (const m of sql.matchAll(tokens)) {
    let kind = kinds[m.findIndex((part, i) => i && part !== undefined)] ?? "";
    if (m[6] && keywords.has(m[6].toUpperCase())) kind = "word";
    if (!kind) { out.append(m[0]); continue; }
    const span = document.createElement("span");
    span.className = kind;
    span.textContent = m[0];
    out.append(span);
  }
  out.append("\n"); // so that a last empty line has its height
  place.replaceChildren(out);
}

customElements.define("sql-editor", class extends HTMLElement {
  connectedCallback() {
    this.field = this.querySelector("textarea");
    if (!this.field || this.paper) return;
    this.paper = document.createElement("pre");
    this.paper.className = "paint";
    this.paper.setAttribute("aria-hidden", "true");
    this.prepend(this.paper);
    this.classList.add("live");
    this.field.addEventListener("input", () => { this.draw(); this.offer(); });
    this.field.addEventListener("scroll", () => { this.paper.scrollTop = this.field.scrollTop; });
    this.field.addEventListener("keydown", (e) => this.key(e));
    this.field.addEventListener("blur", () => setTimeout(() => this.close(), 150));
    this.field.setAttribute("aria-autocomplete", "list");
    this.tables = new Map(this.dataset.words.split("\n").filter(Boolean).map((line) => { const [table, ...columns] = line.split("\t"); return [table, columns]; }));
    this.draw();
    this.remember();
    this.showHistory();
  }

  draw() {
    paint(this.paper, this.field.value);
    this.paper.scrollTop = this.field.scrollTop;
  }

  key(e) {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) {
      e.preventDefault();
      this.close();
      return this.field.form.requestSubmit();
    }
    if (!this.list) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    if (step) {
      e.preventDefault();
      this.pick((this.picked + step + this.list.children.length) % this.list.children.length);
    } else if (e.key === "Tab" || (e.key === "Enter" && this.picked >= 0)) {
      e.preventDefault();
      this.take(Math.max(this.picked, 0));
    } else if (e.key === "Escape") {
      e.preventDefault();
      this.close();
    }
  }

  // offer lists what the word before the cursor may become: after "table." its columns, else all names of the tables
  // that the statement mentions, then the tables, then words of SQL.
  offer() {
    this.close();
    const before = this.field.value.slice(0, this.field.selectionStart), m = before.match(/(?:([A-Za-z_]\w*)\.)?([A-Za-z_]\w*)?$/);
    const [, table, start = ""] = m;
    if (!table && start.length < 2) return;
    const found = new Map(), want = start.toLowerCase();
    const add = (name, about) => { if (name.replace(/^"/, "").toLowerCase().startsWith(want) && name.toLowerCase() !== want && !found.has(name) && found.size < 12) found.set(name, about); };
    if (table) {
      for (const [name, columns] of this.tables) if (name.toLowerCase() === table.toLowerCase()) columns.forEach((c) => add(c, name));
    } else {
      const used = this.field.value.toLowerCase();
      for (const [name, columns] of this.tables) if (used.includes(name.toLowerCase())) columns.forEach((c) => add(c, name));
      for (const name of this.tables.keys()) add(name, "");
      for (const word of keywords) add(word, "");
    }
    if (!found.size) return;
    this.list = document.createElement("ul");
    this.list.className = "offers";
    this.list.id = "sql-offers";
    this.list.setAttribute("role", "listbox");
    this.length = start.length;
    this.picked = -1;
    for (const [name, about] of found) {
      const li = document.createElement("li"), small = document.createElement("small");
      li.setAttribute("role", "option");
      li.textContent = name;
      small.textContent = about;
      if (about) li.append(small);
      li.dataset.name = name;
      li.addEventListener("mousedown", (e) => { e.preventDefault(); this.take([...this.list.children].indexOf(li)); });
      this.list.append(li);
    }
    this.append(this.list);
    const at = this.place(before.length - start.length);
    this.list.style.left = Math.min(at.left, this.clientWidth - this.list.offsetWidth) + "px";
    this.list.style.top = at.bottom + 4 + "px";
    this.field.setAttribute("aria-controls", this.list.id);
  }

  // place is where a character stands, by the painted copy.
  place(offset) {
    const walk = document.createTreeWalker(this.paper, NodeFilter.SHOW_TEXT), range = document.createRange(), frame = this.getBoundingClientRect();
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
      if (offset <= node.length) {
        range.setStart(node, Math.min(offset, node.length - 1 < 0 ? 0 : offset));
        range.collapse(true);
        const r = range.getClientRects()[0] ?? this.paper.getBoundingClientRect();
        return { left: r.left - frame.left, bottom: r.bottom - frame.top };
      }
      offset -= node.length;
    }
    return { left: 0, bottom: this.clientHeight };
  }

  pick(i) {
    this.picked = i;
    [...this.list.children].forEach((li, n) => li.setAttribute("aria-selected", n === i));
    this.list.children[i].scrollIntoView({ block: "nearest" });
  }

  take(i) {
    const name = this.list.children[i].dataset.name, end = this.field.selectionStart;
    this.field.setRangeText(name, end - this.length, end, "end");
    this.close();
    this.draw();
  }

  close() {
    this.list?.remove();
    this.list = null;
    this.field.removeAttribute("aria-controls");
  }

  // What was asked stays in this browser: it may have people's data in it.
  get shelf() { return "trivet-sql:" + this.dataset.database; }

  history() {
    try { return JSON.parse(localStorage.getItem(this.shelf)) ?? []; } catch { return []; }
  }

  remember() {
    const sql = this.field.value.trim();
    if (!sql || sql.length > longestRemembered) return;
    try { localStorage.setItem(this.shelf, JSON.stringify([sql, ...this.history().filter((old) => old !== sql)].slice(0, remembered))); } catch {} // a browser that keeps nothing
  }

  showHistory() {
    const place = this.closest("form").querySelector(".history"), all = this.history();
    if (!place || !all.length) return;
    const details = document.createElement("details"), summary = document.createElement("summary"), box = document.createElement("div");
    details.className = "menu";
    summary.className = "button quiet";
    summary.textContent = this.dataset.history;
    for (const sql of all) {
      const b = document.createElement("button");
      b.type = "button";
      b.textContent = sql.length > 200 ? sql.slice(0, 200) + "…" : sql;
      b.addEventListener("click", () => { this.field.value = sql; this.draw(); details.open = false; this.field.focus(); });
      box.append(b);
    }
    details.append(summary, box);
    place.replaceChildren(details);
    place.hidden = false;
  }
});

/** <sql-copy><a href=FILE> copies the file's text instead of saving it. */
customElements.define("sql-copy", class extends HTMLElement {
  connectedCallback() {
    this.addEventListener("click", async (e) => {
      if (!navigator.clipboard) return;
      e.preventDefault();
      const answer = await fetch(e.target.closest("a").href);
      await navigator.clipboard.writeText(await answer.text());
      say(this.dataset.done);
    });
  }
});

// The first run: what may change by itself is looked at again, as long as the page is seen.
import { visit } from "asset:app.js";

customElements.define("tv-again", class extends HTMLElement {
  connectedCallback() {
    const seconds = Number(this.dataset.seconds) || 5;
    this.timer = setTimeout(async () => {
      if (!document.hidden) await visit(location.href, { keep: true, quiet: true });
      if (this.isConnected) this.connectedCallback();
    }, seconds * 1000);
  }
  disconnectedCallback() {
    clearTimeout(this.timer);
  }
});

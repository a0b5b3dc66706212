// Passkeys: what a browser does for them only by script. <tv-passkey data-options="…"> has a button, which is shown when the
// browser can; its form is sent with the answer. data-make: a passkey is made, else one is used.
const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
const listed = (list = []) => list.map((one) => ({ ...one, id: bytes(one.id) }));

customElements.define("tv-passkey", class extends HTMLElement {
  connectedCallback() {
    const button = this.querySelector("button");
    if (!window.PublicKeyCredential) return;
    for (const e of this.querySelectorAll("[data-without]")) e.hidden = true;
    button.hidden = false;
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        this.closest("form").elements.passkey.value = JSON.stringify(await this.answer(JSON.parse(this.dataset.options)));
        this.closest("form").submit();
      } catch {
        this.querySelector("[data-failed]").hidden = false;
        button.disabled = false;
      }
    });
  }
  async answer(options) {
    options.challenge = bytes(options.challenge);
    if (this.hasAttribute("data-make")) {
      options.user.id = bytes(options.user.id);
      options.excludeCredentials = listed(options.excludeCredentials);
      const made = await navigator.credentials.create({ publicKey: options });
      return this.common(made, { attestationObject: text(made.response.attestationObject), transports: made.response.getTransports?.() ?? [] });
    }
    options.allowCredentials = listed(options.allowCredentials);
    const used = await navigator.credentials.get({ publicKey: options }), r = used.response;
    return this.common(used, { authenticatorData: text(r.authenticatorData), signature: text(r.signature), ...(r.userHandle ? { userHandle: text(r.userHandle) } : {}) });
  }
  common(credential, response) {
    return { id: credential.id, rawId: text(credential.rawId), type: credential.type, clientExtensionResults: credential.getClientExtensionResults(),
      response: { clientDataJSON: text(credential.response.clientDataJSON), ...response } };
  }
});

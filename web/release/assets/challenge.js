// The work that a page asks of a browser before it sends the form: find a number so that the SHA-256 of the token, a colon
// and the number begins with so many zero bits. It takes about a second, and is worth a second only to who writes one message.

const form = document.querySelector("form[data-challenge]");

// zeros reports whether a digest begins with so many zero bits.
function zeros(digest, bits) {
  const words = new DataView(digest);
  return words.getUint32(0) >>> (32 - bits) === 0;
}

// prove looks for the number, some at a time: one digest after the other would wait for each.
async function prove(token, bits) {
  const encoder = new TextEncoder();
  for (let n = 0; ; n += 256) {
    const tries = Array.from({ length: 256 }, (_, i) => n + i);
    const digests = await Promise.all(tries.map((i) => crypto.subtle.digest("SHA-256", encoder.encode(`${token}:${i}`))));
    const found = digests.findIndex((d) => zeros(d, bits));
    if (found >= 0) return String(n + found);
  }
}

form?.addEventListener("submit", async (event) => {
  if (form.elements.proof.value) return;
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  button.textContent = form.dataset.working;
  form.elements.proof.value = await prove(form.dataset.challenge, Number(form.dataset.bits));
  form.submit();
});

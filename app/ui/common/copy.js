// What is copied holds none of the word joiners that `literal` (text.py) puts into dashes and addresses: a command can be
// pasted.
(() => {
  if (window.trimCopy) return;
  window.trimCopy = true;
  document.addEventListener("copy", (event) => {
    const text = String(getSelection());
    if (!text.includes("\u2060")) return;
    event.clipboardData.setData("text/plain", text.replaceAll("\u2060", ""));
    event.preventDefault();
  });
})();

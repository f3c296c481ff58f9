// Charts are drawn in the theme in which the page ran: where a reader or the system changes it, the page runs again.
(() => {
  const app = document.querySelector("[data-testid=stApp]");
  if (window.trimTheme || !app) return;
  window.trimTheme = true;
  const isDark = () => {
    const [red, green, blue] = getComputedStyle(app).backgroundColor.match(/\d+/g).map(Number);
    return red + green + blue < 3 * 128;
  };
  const mark = () => document.documentElement.toggleAttribute("data-dark", isDark());  // for the page's style
  let was = isDark();
  mark();
  const look = () => {
    if (isDark() === was) return;
    if (document.querySelector("[role=dialog]")) return void setTimeout(look, 500);  // which running again would close
    was = !was;
    document.dispatchEvent(new KeyboardEvent("keydown", { key: "r", code: "KeyR", bubbles: true }));  // Streamlit's "run again"
  };
  new MutationObserver(() => { mark(); setTimeout(look, 100); }).observe(app, { attributes: true, attributeFilter: ["class"] });
})();

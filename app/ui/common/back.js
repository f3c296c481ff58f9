// The browser's Back undoes what was chosen on a page, and returns to where a page was scrolled to.
(() => {
  if (window.trimBack) return;
  window.trimBack = true;
  const MERGE = 1000, PATIENCE = 6000;   // milliseconds
  const places = new Map();              // address: how far the page was scrolled
  let acted = false, last = 0, wanted = null;
  const main = () => document.querySelector("[data-testid=stMain]");

  // Streamlit replaces the address when a control is moved. What a reader did becomes a step of the history, moves that
  // follow each other closely one step; what the page does by itself replaces.
  const push = history.pushState.bind(history), replace = history.replaceState.bind(history);
  const step = (state, title, url) => {
    const to = new URL(url ?? location.href, location.href);
    if (to.pathname !== location.pathname) { acted = false; push(state, title, url); return; }
    if (to.search === location.search) { replace(state, title, url); return; }
    const now = Date.now();
    if (acted && now - last > MERGE) push(state, title, url); else replace(state, title, url);
    if (acted) last = now;
    acted = false;
  };
  history.pushState = step;
  history.replaceState = step;
  for (const kind of ["pointerdown", "keydown"]) {
    addEventListener(kind, () => { acted = true; wanted = null; }, true);
  }
  addEventListener("wheel", () => { wanted = null; }, { capture: true, passive: true });

  addEventListener("scroll", (event) => {
    if (event.target === main() && wanted === null) places.set(location.href, event.target.scrollTop);
  }, true);
  addEventListener("popstate", () => {
    acted = false;
    const place = places.get(location.href) ?? 0, until = Date.now() + PATIENCE;
    wanted = place;
    const look = () => {
      const page = main();
      if (wanted !== place) return;
      if (page && page.scrollHeight - page.clientHeight >= place) page.scrollTop = place;
      if (Date.now() < until) setTimeout(look, 100); else wanted = null;
    };
    look();
  }, true);
})();

"use strict";
// Asks this page's own server each second for a newer page, and reloads; the address keeps the explorer's state.
// Waits while the reader moves or types something, and restores the focus afterwards.
{
  const KEPT = "vertebra-focus";
  const OPENED = "vertebra-open";
  const QUIET = 1000; // milliseconds: longer than it takes until the address has the new state
  const status = document.getElementById("live");
  let version = document.documentElement.dataset.version;
  let touched = 0;
  for (const kind of ["input", "change", "keydown", "pointerdown", "scroll"]) {
    addEventListener(kind, () => { touched = performance.now(); }, { capture: true, passive: true });
  }
  for (const name of JSON.parse(sessionStorage.getItem(OPENED) ?? "[]")) {
    const found = document.querySelector(`#${CSS.escape(name)} > details`);
    if (found) found.open = true;
  }
  sessionStorage.removeItem(OPENED);
  const focused = document.getElementById(sessionStorage.getItem(KEPT) ?? "");
  sessionStorage.removeItem(KEPT);
  focused?.focus({ preventScroll: true });

  async function look() {
    try {
      const answer = await fetch("/version", { cache: "no-store" });
      const newest = await answer.text();
      status.textContent = "Live: this page follows the table.";
      version ??= newest;
      if (newest !== version && performance.now() - touched > QUIET) {
        if (document.activeElement?.id) sessionStorage.setItem(KEPT, document.activeElement.id);
        const open = [...document.querySelectorAll("section > details[open]")].map((one) => one.parentElement.id);
        sessionStorage.setItem(OPENED, JSON.stringify(open));
        location.reload();
        return;
      }
    } catch {
      status.textContent = "No longer live: the server has ended; this is its last page.";
    }
    setTimeout(look, 1000);
  }
  look();
}

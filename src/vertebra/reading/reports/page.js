"use strict";
// Each heading's button sorts its table; blanks stay last, and a second press reverses the order.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  headings.forEach((heading, index) => heading.querySelector("button").addEventListener("click", () => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[index];
      return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
    };
    const sorted = [...body.rows].sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = typeof a === "number" && typeof b === "number" ? a - b
        : String(a).localeCompare(String(b), "en", {numeric: true});
      return down ? -order : order;
    });
    body.append(...sorted);
  }));
}

// A link to a folded section opens it; paper has everything open.
const folds = [...document.querySelectorAll("section > details")];
const unfold = (hash) => {
  const found = folds.find((one) => `#${one.parentElement.id}` === hash);
  if (found) found.open = true;
};
unfold(location.hash);
addEventListener("hashchange", () => unfold(location.hash));
for (const link of document.querySelectorAll('a[href^="#"]')) link.addEventListener("click", () => unfold(link.hash));
let wereClosed = [];
addEventListener("beforeprint", () => {
  wereClosed = folds.filter((one) => !one.open);
  for (const one of wereClosed) one.open = true;
});
addEventListener("afterprint", () => { for (const one of wereClosed) one.open = false; });

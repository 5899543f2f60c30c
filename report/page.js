"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, i) => head.firstElementChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const h of heads) h.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const number = head.classList.contains("n");
    const compare = (a, b) => {
      const x = a.cells[i].dataset.sort, y = b.cells[i].dataset.sort;
      if (x === "" || y === "") return (x === "") - (y === ""); // unknown comes last
      const c = number ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
      return up ? c : -c;
    };
    body.append(...[...body.rows].sort(compare));
  }));
}

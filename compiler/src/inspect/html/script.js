"use strict";
// Search: rows of the table that do not match are hidden, boxes of the graph that do are marked.
// The page is complete without it; that is why the search is hidden until this runs.
(() => {
  const input = document.getElementById("search");
  const found = document.getElementById("found");
  const rows = [...document.querySelectorAll("tr.region")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const nodes = [...document.querySelectorAll("[data-region]")];
  input.closest(".search").hidden = false;

  const search = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = texts.map((text) => words.every((word) => text.includes(word)));
    rows.forEach((row, index) => { row.hidden = !matches[index]; });
    nodes.forEach((node) => {
      const match = words.length > 0 && matches[Number(node.dataset.region)];
      node.classList.toggle("found", match);
    });
    const count = matches.filter(Boolean).length;
    found.value = words.length === 0 ? "" : `${count} of ${rows.length}`;
  };

  // A link to a row that the search has hidden must still lead to it.
  const show = () => {
    const row = document.getElementById(location.hash.slice(1));
    if (!row || !row.classList.contains("region")) { return; }
    if (row.hidden) { input.value = ""; search(); }
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "center" });
  };

  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { input.value = ""; search(); }
    if (event.key === "Enter") {
      const first = rows.find((row) => !row.hidden);
      if (first) { location.hash = first.id; }
    }
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement;
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      input.focus();
    }
  });
  window.addEventListener("hashchange", show);
  show();
})();

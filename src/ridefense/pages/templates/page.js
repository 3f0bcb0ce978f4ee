"use strict";
// Tables are complete as they stand. This adds sorting by column and a filter over rows.
const LONG = 8; // rows; shorter tables need no filter

function compare(column, number) {
  return (one, other) => {
    const [a, b] = [one.cells[column], other.cells[column]];
    if (!number) return a.textContent.localeCompare(b.textContent, "en", { numeric: true });
    const [x, y] = [a.dataset.value, b.dataset.value];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return x - y;
  };
}

function sort(table, head) {
  const descending = head.ariaSort === "ascending";
  const missing = (row) => head.className !== "text" && row.cells[head.cellIndex].dataset.value === undefined;
  const rows = [...table.tBodies[0].rows].sort(compare(head.cellIndex, head.className !== "text"));
  if (descending) rows.reverse();
  rows.sort((a, b) => missing(a) - missing(b)); // what has no value stays at the end
  for (const other of head.parentNode.cells) other.ariaSort = null;
  head.ariaSort = descending ? "descending" : "ascending";
  table.tBodies[0].append(...rows);
}

function filter(table, words, count) {
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
  const left = rows.filter((row) => !row.hidden).length;
  count.textContent = words.length ? `${left} of ${rows.length} rows` : "";
}

for (const table of document.querySelectorAll("table")) {
  if (table.tBodies[0].rows.length > 1) {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head));
      head.append(button);
    }
  }
  if (table.tBodies[0].rows.length >= LONG) {
    const bar = document.createElement("p");
    const input = document.createElement("input");
    const count = document.createElement("output");
    bar.className = "filter";
    input.type = "search";
    input.placeholder = "Filter rows";
    input.ariaLabel = "Filter rows";
    input.addEventListener("input", () => {
      filter(table, input.value.toLowerCase().split(/\s+/).filter(Boolean), count);
    });
    bar.append(input, count);
    table.parentNode.before(bar);
  }
}

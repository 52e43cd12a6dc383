// Reads pictures point by point, with the pointer or the arrow keys; the words come from the table
// behind each. The page is whole without it.
"use strict";

const kLeap = 10; // points that Page Up and Page Down go

// Calls show(step) with a new place for a key, or undefined where the key means nothing.
function placeAfter(key, at, count) {
  const last = count - 1;
  const places = {
    ArrowRight: Math.min(last, at + 1),
    ArrowLeft: Math.max(0, at - 1),
    PageDown: Math.min(last, at + kLeap),
    PageUp: Math.max(0, at - kLeap),
    Home: 0,
    End: last,
  };
  return places[key];
}

function indexAt(area, event, axis, count) {
  const box = area.getBoundingClientRect();
  const share = axis === "x" ? (event.clientX - box.left) / box.width
                             : (event.clientY - box.top) / box.height;
  return Math.max(0, Math.min(count - 1, Math.floor(share * count)));
}

function readTable(plot) {
  const table = document.getElementById(plot.dataset.table);
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const rows = table.tBodies[0].rows;
  const area = plot.querySelector(".area");
  const cursor = plot.querySelector(".cursor");
  const readout = plot.closest("figure").querySelector(".readout");
  let at = -1;

  function show(index) {
    at = index;
    cursor.hidden = false;
    cursor.style.left = ((index + 0.5) / rows.length) * 100 + "%";
    readout.textContent = [...rows[index].cells].map(
      (cell, i) => (i === 0 && cell.textContent.startsWith("layer") ? cell.textContent
                                                                    : heads[i] + " " + cell.textContent)).join(" · ");
  }
  area.addEventListener("pointermove", (event) => show(indexAt(area, event, "x", rows.length)));
  plot.addEventListener("keydown", (event) => {
    if (event.target !== plot) return;
    const place = placeAfter(event.key, at, rows.length);
    if (place === undefined) return;
    event.preventDefault();
    show(place);
  });
}

function readHeat(plot) {
  const layers = JSON.parse(document.getElementById(plot.dataset.heat).textContent);
  const columns = Number(plot.dataset.columns);
  const area = plot.querySelector(".area");
  const cell = plot.querySelector(".cell");
  const readout = plot.closest("figure").querySelector(".readout");
  let row = 0;
  let column = -1;

  function show() {
    const { layer, uses } = layers[row];
    if (column >= uses.length) column = uses.length - 1;
    const sum = uses.reduce((total, count) => total + count, 0);
    const share = sum === 0 ? 0 : (100 * uses[column]) / sum;
    const beside = sum === 0 ? 0 : (uses[column] * uses.length) / sum;
    cell.hidden = false;
    Object.assign(cell.style, {
      left: (column / columns) * 100 + "%",
      top: (row / layers.length) * 100 + "%",
      width: 100 / columns + "%",
      height: 100 / layers.length + "%",
    });
    readout.textContent = `layer ${layer} expert ${column}: ${uses[column]} uses, ` +
      `${share.toFixed(2)} % of the layer's, ${beside.toFixed(1)} times an even split`;
  }
  area.addEventListener("pointermove", (event) => {
    row = indexAt(area, event, "y", layers.length);
    column = indexAt(area, event, "x", columns);
    show();
  });
  plot.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") row = Math.min(layers.length - 1, row + 1);
    else if (event.key === "ArrowUp") row = Math.max(0, row - 1);
    else {
      const place = placeAfter(event.key, column, layers[row].uses.length);
      if (place === undefined) return;
      column = place;
    }
    if (column < 0) column = 0;
    event.preventDefault();
    show();
  });
}

document.querySelectorAll(".plot[data-table]").forEach(readTable);
document.querySelectorAll(".plot[data-heat]").forEach(readHeat);

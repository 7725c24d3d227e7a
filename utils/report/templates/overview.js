"use strict";
// The table of videos: unpacks it, and finds, sorts and shows a page of it at a time.
const ROWS_A_PAGE = 50;
const [FOLDER, NAME, TYPE, STATE, REASON, SECONDS, MESSAGE, LINK] = Array(8).keys();
const COLUMNS = [NAME, TYPE, STATE, REASON, SECONDS, MESSAGE];
const element = (id) => document.getElementById(id);
const headers = [...document.querySelectorAll("#videos th")];
let folders = [], rows = [], found = [], page = 0, sortedBy = -1, isDescending = false;

async function unpack() {
  const bytes = Uint8Array.from(atob(element("table").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  ({ folders, rows } = await new Response(stream).json());
  find();
}

function find() {
  const text = element("find").value.toLowerCase(), state = element("state").value;
  const has = (value) => value.toLowerCase().includes(text);
  found = rows.filter((row) => (!state || row[STATE] === state) &&
    (!text || has(folders[row[FOLDER]] + "/" + row[NAME]) || has(row[REASON]) || has(row[MESSAGE])));
  if (sortedBy >= 0) {
    const sign = isDescending ? -1 : 1;
    found.sort((a, b) => sign * (a[sortedBy] < b[sortedBy] ? -1 : a[sortedBy] > b[sortedBy] ? 1 : 0));
  }
  page = 0;
  show();
}

function show() {
  const start = page * ROWS_A_PAGE, shown = found.slice(start, start + ROWS_A_PAGE);
  document.querySelector("#videos tbody").replaceChildren(...shown.map(makeRow));
  const range = found.length > ROWS_A_PAGE ? `${start + 1} to ${start + shown.length} of ` : "";
  element("number").textContent = `${range}${found.length} of ${rows.length} videos`;
  element("previous").disabled = page === 0;
  element("next").disabled = start + ROWS_A_PAGE >= found.length;
}

function makeRow(row) {
  const line = document.createElement("tr");
  for (const column of COLUMNS) {
    const cell = line.insertCell();
    cell.textContent = column === SECONDS ? (row[SECONDS] ? row[SECONDS].toFixed(2) + " s" : "") : row[column];
    if (column === SECONDS) cell.className = "count";
    if (column !== NAME) continue;
    if (row[LINK]) {
      const link = document.createElement("a");
      [link.href, link.textContent] = [row[LINK], row[NAME]];
      cell.replaceChildren(link);
    }
    const folder = cell.appendChild(document.createElement("div"));
    [folder.className, folder.textContent] = ["weak", folders[row[FOLDER]]];
  }
  return line;
}

headers.forEach((header, i) => header.firstChild.addEventListener("click", () => {
  isDescending = sortedBy === COLUMNS[i] && !isDescending;
  sortedBy = COLUMNS[i];
  for (const other of headers) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
  find();
}));
for (const id of ["find", "state"]) element(id).addEventListener("input", find);
element("previous").addEventListener("click", () => { page--; show(); });
element("next").addEventListener("click", () => { page++; show(); });
unpack();

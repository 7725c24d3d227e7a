"use strict";
// Keeps the video, the marks and the words together at one moment of time.
const data = JSON.parse(document.getElementById("data").textContent);
const [video, axis, now] = ["video", "#axis", "#now"].map((name) => document.querySelector(name));
let time = 0;

// In each area a line at the time, and the span of the row there.
const marks = [...document.querySelectorAll(".area")].map((area) => {
  const [line, span] = ["now-line", "row-span"].map((name) => {
    const mark = area.appendChild(document.createElement("div"));
    mark.className = name;
    return mark;
  });
  return { line, span, part: area.dataset.part };
});

const begin = (rows, i) => i * rows.step;
const end = (rows, i) => Math.min(begin(rows, i) + rows.length, rows.end);
const centre = (rows, i) => (begin(rows, i) + end(rows, i)) / 2;

// The row that is shown at a time: the one whose middle is nearest.
function rowAt(rows, seconds) {
  let i = Math.round((seconds - rows.length / 2) / (rows.step || 1));
  i = Math.max(0, Math.min(rows.count - 1, i));
  while (i > 0 && Math.abs(centre(rows, i - 1) - seconds) < Math.abs(centre(rows, i) - seconds)) i--;
  while (i < rows.count - 1 && Math.abs(centre(rows, i + 1) - seconds) <= Math.abs(centre(rows, i) - seconds)) i++;
  return i;
}

function show(seconds) {
  time = Math.max(0, Math.min(data.seconds, seconds));
  const spans = data.parts.map((rows) => {
    const i = rowAt(rows, time);
    return { i, begin: begin(rows, i), end: end(rows, i), isIn: begin(rows, i) <= time && time <= end(rows, i) };
  });
  const percent = (seconds) => seconds / data.seconds * 100 + "%";
  for (const mark of marks) {
    const span = spans[mark.part];
    mark.line.style.left = percent(time);
    mark.span.hidden = !span?.isIn;
    if (span) [mark.span.style.left, mark.span.style.width] = [percent(span.begin), percent(span.end - span.begin)];
  }
  const words = spans.map(({ i, begin, end, isIn }, part) => {
    const { title, count } = data.parts[part];
    return `${title}: ${isIn ? `row ${i + 1} of ${count}, ${begin.toFixed(2)} to ${end.toFixed(2)} s` : "no row"}`;
  });
  now.textContent = `${time.toFixed(2)} s. ${words.join(". ")}`;
  axis.setAttribute("aria-valuenow", time.toFixed(2));
  axis.setAttribute("aria-valuetext", now.textContent);
}

function go(seconds) {
  show(seconds);
  if (video.readyState > 0) video.currentTime = time;
}

function follow() {
  show(video.currentTime);
  if (!video.paused && !video.ended) requestAnimationFrame(follow);
}

for (const area of document.querySelectorAll(".area")) {
  area.addEventListener("click", (event) => {
    const box = area.getBoundingClientRect();
    go((event.clientX - box.left) / box.width * data.seconds);
  });
}
document.addEventListener("keydown", (event) => {
  if (event.target === video || event.target.closest("a") || event.ctrlKey || event.altKey || event.metaKey) return;
  const rows = data.parts[0];
  const i = rowAt(rows, time);
  if (event.key === "ArrowRight") go(centre(rows, Math.min(i + 1, rows.count - 1)));
  else if (event.key === "ArrowLeft") go(centre(rows, Math.max(i - 1, 0)));
  else if (event.key === "Home") go(0);
  else if (event.key === "End") go(data.seconds);
  else if (event.key === " ") { if (video.paused) video.play().catch(() => {}); else video.pause(); }
  else return;
  event.preventDefault();
});
for (const name of ["play", "seeked", "loadedmetadata"]) video.addEventListener(name, follow);
function giveUpVideo() {
  video.hidden = true;
  document.querySelector("#no-video").hidden = false;
}
video.addEventListener("error", giveUpVideo);
if (video.error) giveUpVideo();
show(0);

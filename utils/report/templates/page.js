"use strict";
// Keeps the video, the marks and the words together at one moment of time.
const data = JSON.parse(document.getElementById("data").textContent);
const [video, axis, now] = ["video", "#axis", "#now"].map((name) => document.querySelector(name));
let time = 0;

const marks = [...document.querySelectorAll(".area")].map((area) =>
  ({ line: area.querySelector(".now-line"), span: area.querySelector(".row-span"), part: area.dataset.part }));

// Rows are cut off at both ends of the video. Those that are centred reach beyond both; or the last one is shorter.
const whole = (rows, i) => rows.first + i * rows.step;
const begin = (rows, i) => Math.max(whole(rows, i), 0);
const end = (rows, i) => Math.min(whole(rows, i) + rows.length, rows.end);
const centre = (rows, i) => rows.first < 0 ? whole(rows, i) + rows.length / 2 : (begin(rows, i) + end(rows, i)) / 2;

// The row that is shown at a time: the one whose middle is nearest.
function rowAt(rows, seconds) {
  const last = rows.count - 1;
  const i = Math.max(0, Math.min(last, Math.round((seconds - rows.first - rows.length / 2) / (rows.step || 1))));
  return i === last - 1 && 2 * seconds >= centre(rows, i) + centre(rows, last) ? last : i;
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

// One thing at a time: Chromium's player can stop for ever when more is asked of it before a seek has ended.
let wanted = null, isToPlay = false;
function go(seconds) {
  show(seconds);
  if (video.seeking) wanted = time;
  else if (video.readyState > 0) video.currentTime = time;
}

function play() {
  isToPlay = video.seeking;
  if (!isToPlay) video.play().catch(() => {});
}

function arrive() {
  if (wanted !== null) [video.currentTime, wanted] = [wanted, null];
  else if (isToPlay) play();
  else follow();
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
  const rows = data.parts[0], i = rowAt(rows, time);
  const next = centre(rows, Math.min(i + 1, rows.count - 1)), previous = centre(rows, Math.max(i - 1, 0));
  const places = { ArrowRight: next, ArrowLeft: previous, Home: 0, End: data.seconds };
  if (event.key in places) go(places[event.key]);
  else if (event.key !== " ") return;
  else if (video.paused) play();
  else video.pause();
  event.preventDefault();
});
for (const name of ["play", "loadedmetadata"]) video.addEventListener(name, follow);
video.addEventListener("seeked", arrive);
function giveUpVideo() {
  video.hidden = true;
  document.querySelector("#no-video").hidden = false;
}
video.addEventListener("error", giveUpVideo);
if (video.error) giveUpVideo();
show(0);

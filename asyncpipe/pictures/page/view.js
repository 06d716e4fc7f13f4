"use strict";
// Where things lie: lanes from top to bottom, and the part of time that is seen.

const LANE = 22;
const MARKS = 13;
const COUNTER = 24;
const HEADING = 24;
const AXIS = 24;
const GAP = 5;

const picture = document.getElementById("picture");
const canvas = document.getElementById("canvas");
const context = canvas.getContext("2d");
const showCounters = document.getElementById("show-counters");
const FONT = '11px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace';
const SMALL = '9px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace';

context.font = FONT;
const LETTER = context.measureText("0").width;
const longestName = Math.max(8, ...panels.flatMap((p) => p.rows.map((row) => row.name.length)), 18);
const LEFT = Math.min(240, Math.ceil(longestName * LETTER) + 20);

const view = { start: 0, scale: 1, width: 0, height: 0 };
let lanes = [];
let contentHeight = 0;

function rowLane(row) {
  const lane = row.long.length || !row.marks.length ? LANE : 0;
  const below = row.marks.length ? MARKS : 0;
  return { kind: "row", row, lane, height: Math.max(lane + below, 16) + GAP };
}

function* lanesOf(panel) {
  if (panels.length > 1) yield { kind: "panel", text: panel.name, height: HEADING };
  const devices = [...new Set(panel.rows.map((row) => row.device))].sort((a, b) => a - b);
  for (const device of devices) {
    if (devices.length > 1) yield { kind: "device", text: `device ${device}`, height: HEADING };
    for (const row of panel.rows) if (row.device === device) yield rowLane(row);
  }
  if (!showCounters.checked) return;
  for (const counter of panel.counters) yield { kind: "counter", counter, height: COUNTER + GAP };
}

function arrange() {
  lanes = panels.flatMap((panel) => [...lanesOf(panel)]);
  let y = 8;
  for (const lane of lanes) {
    lane.y = y;
    y += lane.height;
  }
  contentHeight = y + 4;
  document.getElementById("space").style.height = `${contentHeight + AXIS}px`;
}

const x = (time) => LEFT + (time - view.start) * view.scale;
const timeAt = (pixel) => view.start + (pixel - LEFT) / view.scale;
const plotWidth = () => Math.max(50, view.width - LEFT - 36);
const smallest = () => plotWidth() / END;

function keepInside() {
  view.scale = Math.min(Math.max(view.scale, smallest()), 1e6 * smallest());
  const seen = plotWidth() / view.scale;
  view.start = Math.min(Math.max(view.start, 0), Math.max(0, END - seen));
}

function zoomAt(pixel, factor) {
  const time = timeAt(pixel);
  view.scale *= factor;
  keepInside();
  view.start = time - (pixel - LEFT) / view.scale;
  keepInside();
  redraw();
}

function move(pixels) {
  view.start += pixels / view.scale;
  keepInside();
  redraw();
}

function showRange(from, to) {
  view.scale = plotWidth() / Math.max(to - from, END * 1e-6);
  view.start = from;
  keepInside();
  redraw();
}

const showAll = () => showRange(0, END);

function showBox(box) {
  const lane = lanes.find((each) => each.row === box.row);
  const bottom = picture.scrollTop + view.height - AXIS;
  if (lane.y < picture.scrollTop || lane.y + lane.height > bottom) picture.scrollTop = lane.y - 40;
  if (x(box.start) < LEFT || x(box.end) > view.width) {
    view.start = (box.start + box.end) / 2 - plotWidth() / view.scale / 2;
    keepInside();
  }
  redraw();
}

function resize() {
  const whole = view.width > 0 && view.scale <= smallest() * 1.0001;
  const first = view.width === 0;
  arrange();
  view.width = picture.clientWidth;
  view.height = picture.clientHeight;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(view.width * ratio);
  canvas.height = Math.round(view.height * ratio);
  canvas.style.height = `${view.height}px`;
  if (first || whole) showAll();
  keepInside();
  redraw();
}

// The boxes at a point: one, or all marks of one instant; or a counter's value.
function hit(pixelX, pixelY) {
  if (pixelX < LEFT || pixelY > view.height - AXIS) return null;
  const y = pixelY + picture.scrollTop;
  const lane = lanes[firstIndex(lanes.length, (i) => lanes[i].y > y) - 1];
  if (!lane) return null;
  if (lane.kind === "counter") return { counter: lane.counter, time: timeAt(pixelX) };
  if (lane.kind !== "row") return null;
  const boxes = y < lane.y + lane.lane ? boxAt(lane.row, timeAt(pixelX)) : marksAt(lane.row, pixelX);
  return boxes.length ? { boxes } : null;
}

function boxAt(row, time) {
  const box = row.long[firstIndex(row.long.length, (i) => row.long[i].end > time)];
  return box && box.start <= time ? [box] : [];
}

function marksAt(row, pixel) {
  const from = firstIndex(row.marks.length, (i) => x(row.marks[i].start) >= pixel - 6);
  let nearest = null;
  for (let i = from; i < row.marks.length && x(row.marks[i].start) <= pixel + 6; i += 1) {
    const distance = Math.abs(x(row.marks[i].start) - pixel);
    if (!nearest || distance < Math.abs(x(nearest.start) - pixel)) nearest = row.marks[i];
  }
  return nearest ? sameInstant(row.marks, nearest.start) : [];
}

function sameInstant(marks, time) {
  const first = firstIndex(marks.length, (i) => marks[i].start >= time);
  return marks.slice(first, firstIndex(marks.length, (i) => marks[i].start > time, first));
}

function valueAt(counter, time) {
  const next = firstIndex(counter.steps.length, (i) => counter.steps[i][0] > time);
  return next ? counter.steps[next - 1][1] : 0;
}

"use strict";
// Draws what is seen, and nothing else: a box narrower than a pixel stands for all that end within that pixel.

const MOST_ARROWS = 500;
let selected = null;
let chain = [];
let range = null;
let hatches = {};
let theme = {};
let drawn = 0;
let pending = false;

function redraw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    draw();
  });
}

function readTheme() {
  const style = getComputedStyle(root);
  const names = ["paper", "ink", "quiet", "idle", "grid", "line", "accent"];
  theme = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function makeHatches() {
  const ratio = window.devicePixelRatio || 1;
  hatches = {};
  for (const [op, look] of Object.entries(DATA.ops)) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = Math.round(DATA.hatch * ratio);
    const pen = tile.getContext("2d");
    pen.scale(tile.width / DATA.hatch, tile.width / DATA.hatch);
    pen.fillStyle = look.colour;
    pen.fillRect(0, 0, DATA.hatch, DATA.hatch);
    pen.globalAlpha = 0.18;
    pen.strokeStyle = look.ink;
    pen.stroke(new Path2D(look.hatch));
    hatches[op] = context.createPattern(tile, "repeat");
  }
}

function alignHatches() {
  const ratio = window.devicePixelRatio || 1;
  const tile = DATA.hatch / Math.round(DATA.hatch * ratio);
  const matrix = new DOMMatrix().translate(-((view.start * view.scale) % DATA.hatch), 0).scale(tile);
  for (const hatch of Object.values(hatches)) hatch.setTransform(matrix);
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = theme.paper;
  context.fillRect(0, 0, view.width, view.height);
  drawn = 0;
  alignHatches();
  drawGrid();
  context.save();
  context.translate(0, -picture.scrollTop);
  const seen = seenLanes();
  clipped(() => seen.forEach(drawLane));
  if (selected) clipped(drawChain);
  seen.forEach(drawName);
  context.restore();
  if (range) drawRange();
  drawAxis();
  Object.assign(root.dataset, { boxes: String(countBoxes()), drawn: String(drawn), scale: String(view.scale) });
}

const countBoxes = () => panels.reduce((sum, panel) => sum + panel.byText.size, 0);

function seenLanes() {
  const top = picture.scrollTop;
  const first = Math.max(0, firstIndex(lanes.length, (i) => lanes[i].y > top) - 1);
  return lanes.slice(first, firstIndex(lanes.length, (i) => lanes[i].y > top + view.height, first));
}

function clipped(action) {
  context.save();
  context.beginPath();
  context.rect(LEFT - 6, 0, view.width - LEFT + 6, contentHeight);
  context.clip();
  action();
  context.restore();
}

function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10, 20].map((factor) => factor * power).find((step) => step >= least * (1 - 1e-9));
}

function* gridTimes() {
  const step = roundStep(64 / view.scale);
  const last = Math.min(END * (1 + 1e-9), timeAt(view.width));
  for (let i = Math.ceil(view.start / step - 1e-9); i * step <= last; i += 1) yield i * step;
}

function drawGrid() {
  context.fillStyle = theme.grid;
  for (const time of gridTimes()) context.fillRect(Math.round(x(time)), 0, 1, view.height - AXIS);
}

function drawAxis() {
  const y = view.height - AXIS;
  context.fillStyle = theme.paper;
  context.fillRect(0, y, view.width, AXIS);
  context.fillStyle = theme.line;
  context.fillRect(0, y, view.width, 1);
  text(DATA.unit === "cost unit" ? "time" : `time, ${DATA.unit}`, 10, y + 16, theme.quiet);
  context.textAlign = "center";
  for (const time of gridTimes()) text(number(time), x(time), y + 16, theme.quiet);
  context.textAlign = "left";
}

function text(string, left, baseline, colour, font = FONT) {
  context.font = font;
  context.fillStyle = colour;
  context.fillText(string, left, baseline);
}

function drawName(lane) {
  context.fillStyle = theme.paper;
  context.fillRect(0, lane.y - 2, LEFT - 6, lane.height + 2);
  if (lane.kind === "panel") {
    context.fillStyle = theme.line;
    context.fillRect(0, lane.y - 2, view.width, 1);
    text(lane.text, 10, lane.y + 16, theme.ink, `bold ${FONT}`);
  } else if (lane.kind === "device") {
    text(lane.text, 10, lane.y + 18, theme.quiet);
  } else {
    const name = lane.row ? lane.row.name : `stage ${lane.counter.stage} ${lane.counter.name}`;
    const room = Math.floor((LEFT - 18) / LETTER);
    const shown = name.length > room ? `${name.slice(0, room - 1)}…` : name;
    text(shown, 10, lane.y + (lane.row ? (lane.lane || 16) : COUNTER) / 2 + 4, lane.row ? theme.ink : theme.quiet);
  }
}

function drawLane(lane) {
  if (lane.kind === "counter") drawCounter(lane);
  if (lane.kind !== "row") return;
  if (lane.lane) {
    context.fillStyle = theme.idle;
    context.fillRect(x(0), lane.y, lane.row.panel.end * view.scale, lane.lane);
  }
  context.globalAlpha = selected ? 0.3 : 1;
  drawBoxes(lane);
  drawMarks(lane);
  context.globalAlpha = 1;
}

function drawBoxes({ row, y }) {
  const boxes = row.long;
  const until = timeAt(view.width);
  let i = firstIndex(boxes.length, (k) => boxes[k].end > timeAt(LEFT - 6));
  while (i < boxes.length && boxes[i].start < until) {
    const left = x(boxes[i].start);
    if (x(boxes[i].end) - left >= 1) {
      drawBox(boxes[i], y);
      i += 1;
    } else {
      const end = timeAt(Math.floor(left) + 1);
      const next = firstIndex(boxes.length, (k) => boxes[k].start >= end, i + 1);
      drawColumn(row, i, next, y);
      i = next;
    }
  }
}

// Several boxes in one column of pixels: as pale as the stream is idle there.
function drawColumn(row, first, next, y) {
  const before = context.globalAlpha;
  const busy = (row.busy[next] - row.busy[first]) * view.scale;
  context.globalAlpha = before * Math.min(1, Math.max(0.25, busy));
  context.fillStyle = DATA.ops[row.long[first].op].colour;
  context.fillRect(Math.floor(x(row.long[first].start)), y, 1, LANE);
  context.globalAlpha = before;
  drawn += 1;
}

function drawBox(box, y) {
  const left = x(box.start);
  const width = x(box.end) - left;
  const inside = Math.max(width - Math.min(1, width / 4), 0.75);
  context.fillStyle = width < 4 ? DATA.ops[box.op].colour : hatches[box.op];
  context.beginPath();
  context.roundRect(left, y, inside, LANE, Math.min(2, inside / 4));
  context.fill();
  drawn += 1;
  if (width < LETTER) return;
  const label = [box.text, box.index].find((each) => each.length * LETTER + 2 <= width);
  if (!label) return;
  const from = Math.max(left, LEFT);
  const middle = (from + Math.min(left + inside, view.width)) / 2;
  context.textAlign = "center";
  text(label, middle, y + 15, DATA.ops[box.op].ink);
  context.textAlign = "left";
}

function drawMarks({ row, y, lane }) {
  const marks = row.marks;
  const until = timeAt(view.width);
  let i = firstIndex(marks.length, (k) => marks[k].start >= timeAt(LEFT - 6));
  while (i < marks.length && marks[i].start <= until) {
    const left = x(marks[i].start);
    const next = firstIndex(marks.length, (k) => x(marks[k].start) >= left + 1, i + 1);
    drawMark(marks, i, next, y + lane);
    i = next;
  }
}

function drawMark(marks, first, next, y) {
  const left = x(marks[first].start);
  const room = (next < marks.length ? x(marks[next].start) : view.width) - left - 9;
  triangle(left, y, DATA.ops[marks[first].op].colour);
  drawn += 1;
  const few = next - first > 1 ? `${marks[first].text} +${next - first - 1}` : marks[first].text;
  const all = next - first < 20 ? marks.slice(first, next).map((mark) => mark.text).join(" ") : few;
  const label = [all, few].find((each) => each.length * 5.5 <= room);
  if (label) text(label, left + 6, y + 10, theme.ink, SMALL);
}

function triangle(left, y, colour) {
  context.fillStyle = colour;
  context.beginPath();
  context.moveTo(left, y + 1);
  context.lineTo(left - 4, y + 10);
  context.lineTo(left + 4, y + 10);
  context.fill();
}

function drawCounter({ counter, y }) {
  const steps = counter.steps;
  const height = (value) => (value / Math.max(1, counter.most)) * (COUNTER - 4);
  const bottom = y + COUNTER;
  const column = (time) => Math.round(x(time));
  const right = column(END);
  let i = Math.max(0, firstIndex(steps.length, (k) => steps[k][0] > view.start) - 1);
  context.fillStyle = theme.accent;
  context.globalAlpha = counter.name === "staleness" ? 0.55 : 0.3;
  while (i < steps.length && x(steps[i][0]) < view.width) {
    const left = column(steps[i][0]);
    const next = firstIndex(steps.length, (k) => column(steps[k][0]) > left, i + 1);
    const until = next < steps.length ? column(steps[next][0]) : right;
    const value = Math.max(...steps.slice(next - i > 400 ? next - 1 : i, next).map((step) => step[1]));
    const last = steps[next - 1][1];
    context.fillRect(left, bottom - height(last), until - left, height(last));
    if (value > last) context.fillRect(left, bottom - height(value), 1, height(value) - height(last));
    i = next;
  }
  context.globalAlpha = 1;
  context.fillStyle = theme.line;
  context.fillRect(x(0), bottom, END * view.scale, 1);
  text(String(counter.most), Math.max(LEFT, x(0)) + 2, y + 10, theme.quiet, SMALL);
}

function placeOf(box) {
  const lane = laneOf.get(box.row);
  const isMark = box.end === box.start;
  return { left: x(box.start), right: x(box.end), top: lane.y + (isMark ? lane.lane : 0), height: isMark ? MARKS : LANE };
}

let laneOf = new Map();

function drawChain() {
  laneOf = new Map(lanes.filter((lane) => lane.row).map((lane) => [lane.row, lane]));
  const direct = selected.waited.map(([name]) => selected.row.panel.byText.get(name)).filter(Boolean);
  const waiters = selected.row.panel.waiters.get(selected.text) || [];
  const seen = (box) => x(box.end) >= LEFT - 6 && x(box.start) <= view.width;
  for (const box of [...direct, ...waiters].filter(seen)) emphasise(box, theme.quiet, [3, 2]);
  const links = apart(chain.filter(seen));
  for (const box of links) emphasise(box, box === selected ? theme.accent : theme.ink, []);
  if (links.length > MOST_ARROWS) return;
  for (const box of links) {
    const before = cause(box);
    if (before && before.row !== box.row) drawArrow(placeOf(before), placeOf(box));
  }
}

// Of boxes in one column of pixels of one row, the first.
function apart(boxes) {
  let last = null;
  return boxes.filter((box) => {
    const place = `${Math.floor(x(box.start))} ${box.row.name}`;
    const isNew = place !== last || x(box.end) - x(box.start) >= 1;
    last = place;
    return isNew;
  });
}

function emphasise(box, colour, dash) {
  const { left, right, top, height } = placeOf(box);
  if (right > left) drawBox(box, top);
  else triangle(left, top, DATA.ops[box.op].colour);
  if (right > left && right - left < 3 && box !== selected) return;
  context.strokeStyle = colour;
  context.lineWidth = box === selected ? 2.5 : 1.5;
  context.setLineDash(dash);
  if (right > left) context.strokeRect(left, top, Math.max(right - left - 1, 1), height);
  else context.strokeRect(left - 5, top, 10, height - 1);
  context.setLineDash([]);
}

function drawArrow(from, to) {
  const [startX, startY] = [from.right, from.top + from.height / 2];
  const [endX, endY] = [to.left, to.top + to.height / 2];
  const bend = Math.max(14, (endX - startX) / 2);
  context.strokeStyle = context.fillStyle = theme.accent;
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(startX, startY);
  context.bezierCurveTo(startX + bend, startY, endX - bend, endY, endX, endY);
  context.stroke();
  context.beginPath();
  context.moveTo(endX + 1, endY);
  context.lineTo(endX - 6, endY - 4);
  context.lineTo(endX - 6, endY + 4);
  context.fill();
}

function drawRange() {
  context.globalAlpha = 0.2;
  context.fillStyle = theme.accent;
  context.fillRect(Math.min(...range), 0, Math.abs(range[1] - range[0]), view.height - AXIS);
  context.globalAlpha = 1;
}

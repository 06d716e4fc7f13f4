"use strict";
// The data of the page as objects: panels hold rows, rows hold boxes in the order in which the stream ran them.

const root = document.documentElement;
const failures = [];

function fail(message) {
  failures.push(message);
  root.dataset.failures = String(failures.length);
  const line = document.createElement("p");
  line.id = "failure";
  line.textContent = `The page failed: ${message}`;
  document.body.prepend(line);
}

window.addEventListener("error", (event) => fail(event.message));
root.dataset.failures = "0";

const DATA = JSON.parse(document.getElementById("data").textContent);

function makeBox(values, row, position) {
  const [text, start, end, reads = null, writes = null, staleness = null, waited = []] = values;
  const [, stage, op, index] = /^(\d+)([A-Z_]+)(\d+)$/.exec(text);
  return { text, op, stage: Number(stage), index, start, end, reads, writes, staleness, waited, row, position };
}

function makeRow(data, panel) {
  const row = { name: data.name, device: data.device, panel };
  row.boxes = data.boxes.map((values, position) => makeBox(values, row, position));
  row.long = row.boxes.filter((box) => box.end > box.start);
  row.marks = row.boxes.filter((box) => box.end === box.start);
  row.busy = [0];
  for (const box of row.long) row.busy.push(row.busy.at(-1) + box.end - box.start);
  return row;
}

function makePanel(data) {
  const panel = { name: data.name, end: data.end, counters: data.counters };
  panel.rows = data.rows.map((row) => makeRow(row, panel));
  panel.byText = new Map(panel.rows.flatMap((row) => row.boxes.map((box) => [box.text, box])));
  panel.waiters = new Map();
  for (const box of panel.byText.values()) {
    for (const [text] of box.waited) {
      if (!panel.waiters.has(text)) panel.waiters.set(text, []);
      panel.waiters.get(text).push(box);
    }
  }
  return panel;
}

const panels = DATA.panels.map(makePanel);
const END = Math.max(...panels.map((panel) => panel.end), 0) || 1;

// At most six digits after the point, and none that say nothing.
function number(value) {
  const text = value.toFixed(6).replace(/\.?0+$/, "");
  return text === "-0" ? "0" : text;
}

function describe(box) {
  const lines = [`${box.text} ${DATA.ops[box.op].words}, on ${box.row.name}`];
  if (box.end > box.start) {
    lines.push(`${number(box.start)} to ${number(box.end)}, takes ${number(box.end - box.start)}`);
  } else {
    lines.push(`at ${number(box.start)}`);
  }
  if (box.reads !== null) lines.push(`reads version ${box.reads}`);
  if (box.writes !== null) lines.push(`writes version ${box.writes}`);
  if (box.staleness !== null) lines.push(`staleness ${box.staleness}`);
  for (const [text, time] of box.waited) {
    if (time > 0) lines.push(`waited ${number(time)} for ${text}`);
  }
  const ready = box.waited.filter(([, time]) => time === 0).map(([text]) => text);
  if (ready.length) lines.push(`needs ${ready.join(", ")}, which was ready`);
  return lines.join("\n");
}

// What a box started right after: the last of its waits, or what its stream did before.
function cause(box) {
  let last = box.row.boxes[box.position - 1];
  for (const [text] of box.waited) {
    const other = box.row.panel.byText.get(text);
    if (other && (!last || other.end > last.end)) last = other;
  }
  return last;
}

function chainOf(box) {
  const chain = [];
  for (let link = box; link; link = cause(link)) chain.push(link);
  return chain;
}

// The first index at which `holds` is true; it must be false before and true after.
function firstIndex(length, holds, from = 0) {
  let low = from;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

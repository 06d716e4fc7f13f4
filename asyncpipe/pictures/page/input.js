"use strict";
// Mouse, touch, keyboard and buttons.

const tip = document.getElementById("tip");
const detail = document.getElementById("detail");
const find = document.getElementById("find");
let press = null;

function position(event) {
  const frame = picture.getBoundingClientRect();
  return [event.clientX - frame.left - picture.clientLeft, event.clientY - frame.top - picture.clientTop];
}

function tipText(found) {
  if (!found) return "";
  if (found.boxes) return found.boxes.map(describe).join("\n\n");
  const value = valueAt(found.counter, found.time);
  return `stage ${found.counter.stage} ${found.counter.name} ${value}\nat ${number(found.time)}`;
}

function showTip(event) {
  const found = press && press.moved ? null : hit(...position(event));
  tip.textContent = tipText(found);
  tip.hidden = !found;
  if (!found) return;
  const { offsetWidth: width, offsetHeight: height } = tip;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, window.innerWidth - width - 8))}px`;
  const below = event.clientY + 18;
  tip.style.top = `${below + height > window.innerHeight ? Math.max(4, event.clientY - height - 12) : below}px`;
}

function select(box) {
  selected = box;
  chain = box ? chainOf(box) : [];
  detail.textContent = box ? selectionText(box) : "";
  redraw();
}

function selectionText(box) {
  const shown = chain.slice(0, 40).map((link) => link.text).join(" ← ");
  const more = chain.length > 40 ? ` ← ${chain.length - 40} more` : "";
  return `${describe(box).replaceAll("\n", "; ")}. Right after: ${shown}${more}`;
}

picture.addEventListener("wheel", (event) => {
  event.preventDefault();
  const unit = event.deltaMode === 1 ? 16 : 1;
  if (event.altKey) picture.scrollTop += event.deltaY * unit;
  else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) move((event.deltaX || event.deltaY) * unit);
  else zoomAt(Math.max(LEFT, position(event)[0]), Math.exp(-event.deltaY * unit * 0.002));
  showTip(event);
}, { passive: false });

picture.addEventListener("pointerdown", (event) => {
  const [left, top] = position(event);
  if (event.button !== 0 || left > picture.clientWidth) return;
  press = { left, top, start: view.start, scroll: picture.scrollTop, moved: false, isRange: event.shiftKey };
  if (event.isTrusted) picture.setPointerCapture(event.pointerId);
});

picture.addEventListener("pointermove", (event) => {
  if (press) drag(...position(event));
  showTip(event);
});

function drag(left, top) {
  press.moved ||= Math.hypot(left - press.left, top - press.top) > 3;
  if (!press.moved) return;
  if (press.isRange) {
    range = [press.left, left];
  } else {
    picture.classList.add("moving");
    view.start = press.start - (left - press.left) / view.scale;
    picture.scrollTop = press.scroll - (top - press.top);
    keepInside();
  }
  redraw();
}

picture.addEventListener("pointerup", (event) => {
  if (!press) return;
  const released = press;
  const [left, top] = position(event);
  press = range = null;
  picture.classList.remove("moving");
  if (!released.moved) select(hit(left, top)?.boxes?.[0] ?? null);
  else if (released.isRange) showRange(...[timeAt(released.left), timeAt(left)].sort((a, b) => a - b));
});

picture.addEventListener("pointercancel", () => {
  press = range = null;
  picture.classList.remove("moving");
  redraw();
});
picture.addEventListener("pointerleave", () => { tip.hidden = true; });
picture.addEventListener("scroll", redraw);

const middle = () => LEFT + plotWidth() / 2;
const COMMANDS = {
  "zoom-in": () => zoomAt(middle(), 1.5),
  "zoom-out": () => zoomAt(middle(), 1 / 1.5),
  "zoom-all": showAll,
  earlier: () => move(-plotWidth() / 5),
  later: () => move(plotWidth() / 5),
};
for (const [id, command] of Object.entries(COMMANDS)) document.getElementById(id).addEventListener("click", command);

function step(offset) {
  const first = () => lanes.filter((lane) => lane.row).flatMap((lane) => boxAt(lane.row, view.start + 1e-9 * END))[0];
  const next = selected ? selected.row.boxes[selected.position + offset] : first() || panels[0].rows[0]?.boxes[0];
  if (!next) return;
  select(next);
  showBox(next);
}

const KEYS = {
  "+": COMMANDS["zoom-in"], "=": COMMANDS["zoom-in"], "-": COMMANDS["zoom-out"], 0: showAll,
  ArrowLeft: COMMANDS.earlier, ArrowRight: COMMANDS.later, Home: () => move(-1e9), End: () => move(1e9),
  ArrowUp: () => { picture.scrollTop -= 60; }, ArrowDown: () => { picture.scrollTop += 60; },
  Enter: () => step(0), ".": () => step(1), ",": () => step(-1), Escape: () => select(null),
};

picture.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});

function findAction(wanted) {
  const box = panels.map((panel) => panel.byText.get(wanted)).find(Boolean);
  if (!box) return false;
  select(box);
  showBox(box);
  return true;
}

find.addEventListener("input", () => {
  const wanted = find.value.trim().toUpperCase();
  find.setAttribute("aria-invalid", String(wanted !== "" && !findAction(wanted)));
});

showCounters.addEventListener("change", resize);
window.addEventListener("resize", () => {
  makeHatches();
  resize();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readTheme();
  redraw();
});

readTheme();
makeHatches();
resize();
findAction(location.hash.slice(1));
draw();

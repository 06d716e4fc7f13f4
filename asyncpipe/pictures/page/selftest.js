"use strict";
// With #selftest in its address the page plays a user, and writes what came of it as JSON: for the tests.

function pointer(type, left, top, options = {}) {
  const frame = picture.getBoundingClientRect();
  const place = { clientX: frame.left + picture.clientLeft + left, clientY: frame.top + picture.clientTop + top };
  const init = { bubbles: true, cancelable: true, ...place, ...options };
  picture.dispatchEvent(type === "wheel" ? new WheelEvent(type, init) : new PointerEvent(type, init));
  draw();
}

const key = (name) => {
  picture.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
  draw();
};
const seen = () => ({ start: view.start, scale: view.scale });

function centre(box) {
  const lane = lanes.find((each) => each.row === box.row);
  const down = box.end > box.start ? 5 : lane.lane + 7;
  return [x((box.start + box.end) / 2), lane.y + down - picture.scrollTop];
}

function colourAt(left, top) {
  const ratio = window.devicePixelRatio || 1;
  const [red, green, blue] = context.getImageData(left * ratio, top * ratio, 1, 1).data;
  return `#${[red, green, blue].map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

function visit(box) {
  showBox(box);
  draw();
  pointer("pointermove", ...centre(box));
  return { box: box.text, panel: box.row.panel.name, row: box.row.name, tip: tip.hidden ? null : tip.textContent };
}

function playUser() {
  const result = { boxes: countBoxes(), drawn, all: seen() };
  const probe = [LEFT + plotWidth() / 3, 12];
  const time = timeAt(probe[0]);
  pointer("wheel", ...probe, { deltaY: -300 });
  result.wheel = { ...seen(), drawn, moved: Math.abs(timeAt(probe[0]) - time) };
  const from = view.start;
  pointer("pointerdown", probe[0], probe[1]);
  pointer("pointermove", probe[0] - 40, probe[1]);
  pointer("pointerup", probe[0] - 40, probe[1]);
  result.drag = (view.start - from) * view.scale;
  key("0");
  result.key0 = seen();
  key("+");
  result.keyPlus = seen();
  document.getElementById("zoom-out").click();
  result.button = seen();
  key("0");
  result.hover = panels.flatMap((panel) => panel.rows.flatMap((row) => row.boxes.slice(0, 30).map(visit)));
  key("0");
  const colours = panels[0].rows.flatMap((row) => row.long.slice(0, 8));
  result.colours = colours.map((box) => {
    const left = x(box.start) + Math.min(4, (x(box.end) - x(box.start)) / 2);
    return [box.text, colourAt(left, centre(box)[1] + 15)];
  });
  const last = panels[0].rows.flatMap((row) => row.long).reduce((a, b) => (b.end > a.end ? b : a));
  pointer("pointerdown", ...centre(last));
  pointer("pointerup", ...centre(last));
  result.click = { selected: selected?.text, chain: chain.map((box) => box.text), detail: detail.textContent };
  key("Escape");
  result.escape = { selected, detail: detail.textContent };
  key("Enter");
  result.enter = selected?.text;
  key(".");
  result.next = selected?.text;
  key("Escape");
  result.failures = failures;
  return result;
}

if (location.hash === "#selftest") {
  const output = document.createElement("pre");
  output.id = "selftest";
  output.textContent = JSON.stringify(playUser());
  output.hidden = true;
  document.body.append(output);
}

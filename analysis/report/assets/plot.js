// A scatter plot with intervals: one focusable mark per cell, of a colour and a shape per method.
const SHAPES = [
  "M0,-5A5,5 0 1,1 0,5A5,5 0 1,1 0,-5Z",
  "M-4.5,-4.5H4.5V4.5H-4.5Z",
  "M0,-6.5L6.5,0L0,6.5L-6.5,0Z",
  "M0,-6L6,5H-6Z",
  "M0,6L6,-5H-6Z",
];
const FIXED = {
  dense: ["black", 0],
  prefix: ["grey", 4],
  naive: ["orange", 1],
  cacheblend: ["sky", 2],
  kvcomm: ["blue", 0],
};
const SPARE = ["vermilion", "green", "purple"];

/** Return colour class and shape of a method: fixed for the built-in ones, in turn for others. */
function lookOf(method, methods) {
  if (FIXED[method]) return FIXED[method];
  const others = methods.filter((one) => !FIXED[one]),
    index = others.indexOf(method);
  return [SPARE[index % SPARE.length], 3 - (index % 2)];
}

/** Write a number with three significant digits. */
function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}

/** Return a scale: position from 0 to 1, and ticks. */
function scaleOf(measure, ends) {
  let low = Math.min(...ends),
    high = Math.max(...ends);
  const log = measure.log && low > 0;
  const to = log ? Math.log10 : (value) => value;
  if (low === high) {
    low = log ? low / 1.5 : low - 1;
    high = log ? high * 1.5 : high + 1;
  }
  const pad = 0.05 * (to(high) - to(low)),
    start = to(low) - pad,
    span = to(high) + pad - start;
  const inside = (value) => to(value) >= start && to(value) <= start + span;
  let ticks = [];
  if (log) {
    const decades = span > 2.2 ? [1] : span > 0.9 ? [1, 2, 5] : [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7];
    for (let power = Math.floor(start) - 1; power <= start + span; power++)
      ticks.push(...decades.map((base) => base * 10 ** power));
  } else {
    const step = [1, 2, 5, 10]
      .map((base) => base * 10 ** Math.floor(Math.log10(span / 5)))
      .find((size) => span / size <= 7);
    for (let at = Math.ceil(start / step) * step; at <= start + span; at += step)
      ticks.push(Number(at.toPrecision(10)));
  }
  return {
    at: (value) => (to(value) - start) / span,
    ticks: ticks.filter(inside),
    inside,
    has: (value) => !log || value > 0,
  };
}

/**
 * Draw the marks into a box. `marks` have x and y as [value, low, high], `method`, `label`; `on` is called with the
 * index of a chosen mark. Returns the function that highlights one.
 */
function drawPlot(box, marks, x, y, methods, intervals, on) {
  const width = Math.max(300, box.clientWidth),
    height = Math.min(460, Math.max(320, width * 0.5));
  const left = 58,
    right = width - 14,
    top = 14,
    bottom = height - 46;
  const ends = (axis) =>
    marks.flatMap((mark) => (intervals ? mark[axis].slice(0, 3) : [mark[axis][0]]).filter((value) => value !== null));
  const sx = scaleOf(x, ends("x")),
    sy = scaleOf(y, ends("y"));
  const px = (value) => left + (right - left) * sx.at(value),
    py = (value) => bottom - (bottom - top) * sy.at(value);
  const svg = element("svg", {
    viewBox: `0 0 ${width} ${height}`,
    height,
    role: "group",
    "aria-label": `${y.label} by ${x.label}: ${marks.length} cells`,
  });
  const grid =
    sx.ticks.map((tick) => `M${px(tick)},${top}V${bottom}`).join("") +
    sy.ticks.map((tick) => `M${left},${py(tick)}H${right}`).join("");
  svg.append(element("path", { class: "grid", d: grid || "M0,0" }));
  const even =
    (x.even !== null && sx.inside(x.even) ? `M${px(x.even)},${top}V${bottom}` : "") +
    (y.even !== null && sy.inside(y.even) ? `M${left},${py(y.even)}H${right}` : "");
  if (even) svg.append(element("path", { class: "zero", d: even }));
  const label = (attributes, text) => svg.append(element("text", attributes, text));
  sx.ticks.forEach((tick) => label({ x: px(tick), y: bottom + 17, class: "middle" }, short(tick)));
  sy.ticks.forEach((tick) => label({ x: left - 8, y: py(tick) + 4, class: "end" }, short(tick)));
  label({ x: (left + right) / 2, y: height - 8, class: "middle" }, `${x.label} (${x.unit})`);
  label({ class: "middle", transform: `translate(13,${(top + bottom) / 2})rotate(-90)` }, `${y.label} (${y.unit})`);
  const tip = element("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  const order = marks.map((_, index) => index).sort((a, b) => marks[a].x[0] - marks[b].x[0]);
  const dots = [];
  const show = (index) => {
    const mark = marks[index],
      x0 = px(mark.x[0]),
      y0 = py(mark.y[0]);
    tip.textContent = mark.label;
    tip.hidden = false;
    tip.style.left = `${Math.max(0, Math.min(x0 + 12, box.clientWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${y0 + 14}px`;
  };
  const hide = () => {
    tip.hidden = true;
  };
  const highlight = (index) => dots.forEach((dot, at) => dot.classList.toggle("on", at === index));
  order.forEach((index, place) => {
    const mark = marks[index],
      [color, shape] = lookOf(mark.method, methods),
      x0 = px(mark.x[0]),
      y0 = py(mark.y[0]);
    const move = (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (step) {
        event.preventDefault();
        const next = order[(place + step + order.length) % order.length];
        dots[index].setAttribute("tabindex", -1);
        dots[next].setAttribute("tabindex", 0);
        dots[next].focus();
      }
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        on(index);
      }
      if (event.key === "Escape") hide();
    };
    const dot = element("g", {
      class: `dot ${color}`,
      tabindex: place ? -1 : 0,
      role: "button",
      "aria-label": mark.label,
      onkeydown: move,
      onfocus: () => show(index),
      onblur: hide,
      onmouseenter: () => show(index),
      onmouseleave: hide,
      onclick: () => on(index),
    });
    if (intervals && mark.x[1] !== null && sx.has(mark.x[1]))
      dot.append(element("line", { x1: px(mark.x[1]), x2: px(mark.x[2]), y1: y0, y2: y0 }));
    if (intervals && mark.y[1] !== null && sy.has(mark.y[1]))
      dot.append(element("line", { x1: x0, x2: x0, y1: py(mark.y[1]), y2: py(mark.y[2]) }));
    dot.append(element("path", { d: SHAPES[shape], transform: `translate(${x0},${y0})` }));
    dots[index] = dot;
    svg.append(dot);
  });
  box.replaceChildren(svg, tip);
  return highlight;
}

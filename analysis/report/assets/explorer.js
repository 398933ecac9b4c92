// The explorer: choose two measures and some cells; see them as a plot and as a table of the same numbers.
{
  const box = document.getElementById("explorer"),
    { measures, cells } = read("explorer-data");
  const byKey = Object.fromEntries(measures.map((one) => [one.key, one]));
  const distinct = (field) => [...new Set(cells.map((cell) => cell[field]))];
  const methods = distinct("method"),
    has = (...keys) => keys.every((key) => byKey[key]);
  const PRESETS = [
    ["Gain against accuracy", "ttft_gain", "change"],
    ["TTFT against accuracy", "ttft_sum", "accuracy"],
    ["TTFT against KL", "ttft_sum", "kl"],
    ["Memory against KL", "memory", "kl"],
    ["Reuse against gain", "turn_reuse", "latency_gain"],
  ].filter(([, x, y]) => has(x, y));
  const first = PRESETS[0] || ["", measures[0]?.key, (measures[1] || measures[0])?.key];
  const state = {
    x: first[1],
    y: first[2],
    sweep: "",
    workload: "",
    agents: "",
    off: new Set(),
    intervals: false,
    sort: 1,
    down: true,
    on: null,
  };
  const controls = element("div"),
    plot = element("div", { class: "plot" }),
    table = element("div");
  const status = element("p", { class: "quiet", role: "status" }),
    picked = element("p", { class: "picked", role: "status" });
  let shown = [],
    highlight = () => {};

  const text = (measure, value) => {
    if (!value) return "-";
    const interval = value[1] === null ? "too few items for an interval" : `${short(value[1])} to ${short(value[2])}`;
    return `${short(value[0])} ${measure.unit} (${interval}, n = ${value[3]})`;
  };
  const set = (change) => {
    Object.assign(state, change);
    drawControls();
    draw();
  };

  function drawControls() {
    const focused = document.activeElement?.dataset?.key;
    const axis = (name, label) => {
      const made = choice(
        label,
        measures.map((one) => [one.key, `${one.label} (${one.unit})`]),
        state[name],
        (value) => set({ [name]: value, on: null }),
      );
      made.lastChild.dataset.key = name;
      return made;
    };
    const filter = (name, label, all) => {
      const made = choice(
        label,
        [["", all], ...distinct(name).map((one) => [String(one), String(one)])],
        state[name],
        (value) => set({ [name]: value, on: null }),
      );
      made.lastChild.dataset.key = name;
      return made;
    };
    const pressed = (key, label, on, onclick, color) =>
      element(
        "button",
        { type: "button", class: color ? "toggle" : null, "aria-pressed": String(on), "data-key": key, onclick },
        color
          ? element(
              "svg",
              { class: `key ${color[0]}`, viewBox: "-7 -7 14 14", "aria-hidden": "true" },
              element("path", { class: "mark", d: SHAPES[color[1]] }),
            )
          : null,
        color ? ` ${label}` : label,
      );
    controls.replaceChildren(
      element(
        "div",
        { class: "controls" },
        element(
          "fieldset",
          {},
          element("legend", {}, "Views"),
          ...PRESETS.map(([name, x, y]) =>
            pressed(`view ${name}`, name, state.x === x && state.y === y, () => set({ x, y, on: null })),
          ),
        ),
      ),
      element(
        "div",
        { class: "controls" },
        axis("x", "Across"),
        axis("y", "Up"),
        filter("sweep", "Sweep", "all sweeps"),
        filter("workload", "Workload", "all workloads"),
        filter("agents", "Agents", "any number"),
      ),
      element(
        "div",
        { class: "controls" },
        element(
          "fieldset",
          {},
          element("legend", {}, "Methods"),
          ...methods.map((method) =>
            pressed(
              `method ${method}`,
              method,
              !state.off.has(method),
              () => {
                const off = new Set(state.off);
                if (!off.delete(method)) off.add(method);
                set({ off, on: null });
              },
              lookOf(method, methods),
            ),
          ),
        ),
        element(
          "fieldset",
          {},
          element("legend", {}, "Marks"),
          pressed("intervals", "95 % intervals", state.intervals, () => set({ intervals: !state.intervals })),
        ),
      ),
    );
    if (focused) controls.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  function draw() {
    const x = byKey[state.x],
      y = byKey[state.y];
    const fitting = cells.filter(
      (cell) =>
        (!state.sweep || cell.sweep === state.sweep) &&
        (!state.workload || cell.workload === state.workload) &&
        (!state.agents || String(cell.agents) === state.agents) &&
        !state.off.has(cell.method),
    );
    const known = fitting.filter((cell) => cell.v[x.key] && cell.v[y.key]);
    const value = (cell) =>
      state.sort === 0 ? `${cell.sweep} ${cell.name}` : cell.v[state.sort === 1 ? x.key : y.key][0];
    shown = [...known].sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (state.down ? -1 : 1));
    const lost = fitting.length - known.length;
    status.textContent = `${shown.length} cells` + (lost ? `; ${lost} more lack one of the two measures.` : ".");
    if (shown.length) {
      const marks = shown.map((cell) => ({
        x: cell.v[x.key],
        y: cell.v[y.key],
        method: cell.method,
        label: `${cell.sweep}: ${cell.name}\n${x.label}: ${text(x, cell.v[x.key])}\n${y.label}: ${text(y, cell.v[y.key])}`,
      }));
      highlight = drawPlot(plot, marks, x, y, methods, state.intervals, choose);
    } else plot.replaceChildren(element("p", {}, "No cell has both measures under these filters."));
    drawTable(x, y);
  }

  function choose(index) {
    state.on = state.on === shown[index] ? null : shown[index];
    mark();
    if (state.on) table.querySelectorAll("tbody tr")[index].scrollIntoView({ block: "nearest" });
  }
  function mark() {
    highlight(shown.indexOf(state.on));
    table.querySelectorAll("tbody tr").forEach((row, at) => row.classList.toggle("on", shown[at] === state.on));
    picked.replaceChildren();
    if (!state.on) return;
    const open = offered.findConversation(state.on.setting, state.on.arm);
    picked.append(
      element("strong", {}, `${state.on.sweep}: ${state.on.name}`),
      open ? element("button", { type: "button", onclick: open }, "Read its conversations") : "",
    );
  }

  function drawTable(x, y) {
    const focused = document.activeElement?.dataset?.sort;
    const head = (at, label, numeric) =>
      element(
        "th",
        {
          scope: "col",
          class: numeric ? "number" : null,
          "aria-sort": state.sort === at ? (state.down ? "descending" : "ascending") : "none",
        },
        element(
          "button",
          {
            type: "button",
            "data-sort": at,
            onclick: () => {
              set(state.sort === at ? { down: !state.down } : { sort: at, down: at > 0 });
            },
          },
          label,
          state.sort === at ? (state.down ? " ↓" : " ↑") : "",
        ),
      );
    const interval = (value) => (value[1] === null ? "-" : `${short(value[1])} to ${short(value[2])}`);
    const rows = shown.map((cell, index) =>
      element(
        "tr",
        { onclick: () => choose(index) },
        element("th", { scope: "row" }, `${cell.sweep}: ${cell.name}`),
        ...[x, y].flatMap((one) => [
          element("td", { class: "number" }, short(cell.v[one.key][0])),
          element("td", { class: "number" }, interval(cell.v[one.key])),
          element("td", { class: "number" }, `${cell.v[one.key][3]} / ${cell.v[one.key][4]}`),
        ]),
      ),
    );
    const columns = [x, y].flatMap((one, at) => [
      head(at + 1, `${one.label} (${one.unit})`, true),
      element("th", { scope: "col", class: "number" }, "95 % interval"),
      element("th", { scope: "col", class: "number" }, "n / items"),
    ]);
    table.replaceChildren(
      element(
        "details",
        {
          open: state.open,
          ontoggle: (event) => {
            state.open = event.target.open;
          },
        },
        element("summary", {}, "The same as a table"),
        element(
          "div",
          { class: "box", tabindex: 0, role: "region", "aria-label": "Cells of the plot" },
          element(
            "table",
            {},
            element("thead", {}, element("tr", {}, head(0, "Cell", false), ...columns)),
            element("tbody", {}, ...rows),
          ),
        ),
      ),
    );
    if (focused) table.querySelector(`[data-sort="${focused}"]`)?.focus();
    mark();
  }

  if (cells.length && measures.length) {
    box.append(controls, status, plot, picked, table);
    drawControls();
    draw();
    let width = plot.clientWidth;
    new ResizeObserver(() => {
      if (plot.clientWidth !== width) {
        width = plot.clientWidth;
        draw();
      }
    }).observe(plot);
  } else box.append(element("p", {}, "No trial that takes turns ended well, so there is nothing to explore."));
}

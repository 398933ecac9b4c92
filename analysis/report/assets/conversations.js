// The viewer of conversations: one item, its agents side by side, dense above another arm.
if (document.getElementById("viewer")) {
  const box = document.getElementById("viewer"),
    { method, texts, settings } = read("conversation-data");
  const COLORS = {
    base_kv: "green",
    match: "orange",
    estimate: "sky",
    blend: "vermilion",
    recompute: "purple",
    prefill: "blue",
    rest: "grey",
  };
  const NAMES = { base_kv: "base KV", prefill: "forward pass" };
  const MOST = 4e6;
  const state = { setting: 0, item: 0, arm: 1 };
  const controls = element("div", { class: "controls" }),
    view = element("div");
  const besides = (setting) =>
    setting.arms.length > 1
      ? Math.max(
          1,
          setting.arms.findIndex((arm) => arm.split(" ")[0] === method),
        )
      : undefined;
  const byNumber = (names) => names.map((name, index) => [String(index), name]);

  /** Split both texts into words and spaces, and say which are in their longest common subsequence; null if too long. */
  function shared(a, b) {
    const [left, right] = [a, b].map((text) => text.match(/\s+|[^\s]+/gu) || []);
    if (left.length * right.length > MOST) return null;
    const rows = left.length + 1,
      columns = right.length + 1,
      best = new Uint32Array(rows * columns);
    for (let i = left.length - 1; i >= 0; i--)
      for (let j = right.length - 1; j >= 0; j--)
        best[i * columns + j] =
          left[i] === right[j]
            ? best[(i + 1) * columns + j + 1] + 1
            : Math.max(best[(i + 1) * columns + j], best[i * columns + j + 1]);
    const kept = [new Set(), new Set()];
    for (let i = 0, j = 0; i < left.length && j < right.length;) {
      if (left[i] === right[j]) {
        kept[0].add(i++);
        kept[1].add(j++);
      } else if (best[(i + 1) * columns + j] >= best[i * columns + j + 1]) i++;
      else j++;
    }
    return [
      [left, kept[0]],
      [right, kept[1]],
    ];
  }

  /** Write a text with its differing words marked. */
  function marked(words, kept) {
    const parts = [];
    words.forEach((word, index) => {
      const last = parts[parts.length - 1],
        between = !word.trim() && index + 1 < words.length && !kept.has(index + 1);
      const same = word.trim() ? kept.has(index) : !(between && last && !last.same);
      if (last && last.same === same) last.text += word;
      else parts.push({ same, text: word });
    });
    return parts.map((part) => (part.same ? part.text : element("mark", {}, part.text)));
  }

  function pair(own, other) {
    if (other === undefined) return [[own], "", []];
    if (own === other) return [[own], "same answer", [other]];
    const found = shared(own, other);
    return found
      ? [marked(...found[0]), "", marked(...found[1])]
      : [[own], "too long to compare word by word", [other]];
  }

  function phases(turn, longest) {
    const known = Object.entries(turn.phases),
      rest = turn.ttft - known.reduce((sum, [, ms]) => sum + ms, 0);
    if (rest > 0.05) known.push(["rest", rest]);
    const words = known.map(([name, ms]) => `${NAMES[name] || name.replace("_", " ")} ${short(ms)}`).join(", ");
    const bar = element(
      "div",
      { class: "phases", "aria-hidden": "true" },
      ...known.map(([name, ms]) => {
        const part = element("span", { class: COLORS[name] || "grey", title: `${name} ${short(ms)} ms` });
        part.style.width = `${(100 * ms) / longest}%`;
        return part;
      }),
    );
    return [
      bar,
      element(
        "p",
        { class: "small" },
        `First token after ${short(turn.ttft)} ms: ${words}. Then ${short(turn.decode)} ms for ${turn.out} tokens${turn.stop === "length" ? ", cut at the limit" : ""}.`,
      ),
    ];
  }

  function turnBox(name, turn, answer, prompt, note, longest) {
    if (!turn)
      return element(
        "div",
        { class: "turn grey" },
        element("h4", {}, name),
        element("p", { class: "small" }, "This arm did not take the turn."),
      );
    const mode = { dense: "prefilled", partial: "partly reused", reuse: "reused" }[turn.mode] || turn.mode;
    const chips = [mode, turn.outcome, note].filter(Boolean).map((text) => element("span", { class: "chip" }, text));
    const facts = [
      `${turn.reused} of ${turn.tokens} prompt tokens reused`,
      turn.why ? `not all reused: ${turn.why}` : null,
      turn.kl === undefined ? null : `KL to dense on the same prompt ${turn.kl}`,
    ].filter(Boolean);
    const tool =
      turn.tool === undefined
        ? []
        : [
            element("p", { class: "small" }, `Tool ${turn.tool}:`),
            element("p", { class: "said" }, texts[turn.result] || "no result"),
          ];
    return element(
      "div",
      { class: `turn ${turn.mode === "dense" ? "grey" : "blue"}` },
      element("h4", {}, name, ...chips),
      element(
        "p",
        { class: "said", tabindex: 0, role: "group", "aria-label": `Answer of agent ${turn.agent}, ${name}` },
        ...answer,
      ),
      ...tool,
      ...phases(turn, longest),
      element("p", { class: "small" }, `${facts.join("; ")}.`),
      element(
        "details",
        {},
        element("summary", { class: "small" }, "Prompt"),
        element("pre", { tabindex: 0 }, ...prompt),
      ),
    );
  }

  function draw() {
    const setting = settings[state.setting],
      item = setting.items[state.item];
    const [dense, arm] = [item.turns[0], item.turns[state.arm]];
    const places = [
      ...new Map([...dense, ...(arm || [])].map((turn) => [`${turn.round} ${turn.agent}`, turn])).values(),
    ].sort((a, b) => a.round - b.round || a.agent - b.agent);
    const longest = Math.max(...[...dense, ...(arm || [])].map((turn) => turn.ttft));
    const rounds = new Set(places.map((turn) => turn.round)).size;
    const agents = places.map((place) => {
      const find = (turns) => (turns || []).find((turn) => turn.round === place.round && turn.agent === place.agent);
      const [one, two] = [find(dense), find(arm)];
      const both = (field) => pair(one ? texts[one[field]] : "", one && two ? texts[two[field]] : undefined);
      const [answer, note, answered] = both("answer"),
        [prompt, , prompted] = both("prompt");
      const lone = (field) => [two ? texts[two[field]] : ""];
      return element(
        "section",
        { class: "agent", "aria-label": `Agent ${place.agent}` },
        element(
          "h3",
          {},
          `Agent ${place.agent}${rounds > 1 ? `, round ${place.round + 1}` : ""}`,
          element("small", {}, place.role),
        ),
        turnBox(setting.arms[0], one, answer, prompt, "", longest),
        arm
          ? turnBox(
              setting.arms[state.arm],
              two,
              one ? answered : lone("answer"),
              one ? prompted : lone("prompt"),
              note,
              longest,
            )
          : element("div"),
      );
    });
    view.replaceChildren(
      element(
        "p",
        { role: "status" },
        element("strong", {}, item.id),
        `, right answer: ${item.expected || "not known"} `,
        element("span", { class: "chip" }, item.why),
      ),
      element("div", { class: "turns", tabindex: 0, role: "region", "aria-label": "Turns of the item" }, ...agents),
    );
  }

  function drawControls() {
    const focused = document.activeElement?.dataset?.key,
      setting = settings[state.setting];
    const keyed = (key, made) => {
      made.lastChild.dataset.key = key;
      return made;
    };
    const set = (change) => {
      Object.assign(state, change);
      drawControls();
      draw();
    };
    const step = (by) => () => {
      state.item = (state.item + by + setting.items.length) % setting.items.length;
      drawControls();
      draw();
    };
    controls.replaceChildren(
      ...[
        keyed(
          "setting",
          choice("Setting", byNumber(settings.map((one) => one.name)), String(state.setting), (value) =>
            set({ setting: Number(value), item: 0, arm: besides(settings[value]) }),
          ),
        ),
        keyed(
          "item",
          choice(
            "Item",
            setting.items.map((one, index) => [String(index), `${one.id}: ${one.why}`]),
            String(state.item),
            (value) => set({ item: Number(value) }),
          ),
        ),
        setting.arms.length > 1
          ? keyed(
              "arm",
              choice(`Beside ${setting.arms[0]}`, byNumber(setting.arms).slice(1), String(state.arm), (value) =>
                set({ arm: Number(value) }),
              ),
            )
          : null,
        element(
          "fieldset",
          {},
          element("button", { type: "button", "data-key": "back", onclick: step(-1) }, "Previous item"),
          element("button", { type: "button", "data-key": "next", onclick: step(1) }, "Next item"),
        ),
      ].filter(Boolean),
    );
    if (focused) controls.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  offered.findConversation = (name, arm) => {
    const setting = settings.findIndex((one) => one.name === name),
      index = setting < 0 ? -1 : settings[setting].arms.indexOf(arm);
    if (index < 0) return null;
    return () => {
      Object.assign(state, { setting, item: 0, arm: index || besides(settings[setting]) });
      drawControls();
      draw();
      document.getElementById("conversations").scrollIntoView();
      controls.querySelector("select").focus({ preventScroll: true });
    };
  };

  state.arm = besides(settings[0]);
  box.append(controls, view);
  drawControls();
  draw();
}

// Shared by the parts below: elements without markup from data, and the choice of light or dark.
document.documentElement.classList.add("scripted");

/** Make an element. Text becomes a text node, never markup: answers of models go through here. */
function element(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "text", "title"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Make a labelled choice. Options are [value, text] pairs. */
function choice(label, options, value, onchange) {
  const select = element("select", { onchange: () => onchange(select.value) });
  for (const [key, text] of options) select.append(element("option", { value: key, selected: key === value }, text));
  return element("label", {}, label, select);
}

/** What the parts offer each other: `findConversation(setting, arm)` gives a function that shows it, or null. */
const offered = { findConversation: () => null };

const read = (id) => JSON.parse(document.getElementById(id).textContent);

{
  const root = document.documentElement,
    button = document.getElementById("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const show = () => button.setAttribute("aria-pressed", isDark());
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    show();
  });
  prefersDark.addEventListener("change", show);
  show();

  const all = (open) => () =>
    document.querySelectorAll("details.sweep").forEach((one) => {
      one.open = open;
    });
  document.getElementById("open-all").addEventListener("click", all(true));
  document.getElementById("close-all").addEventListener("click", all(false));
}

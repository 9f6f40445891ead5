// The only way text enters the page: textContent. Names, labels and server names come from
// whoever starts a container, so nothing here ever parses HTML.

// Characters that are invisible, move the cursor or reverse the reading direction.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Text as it can be shown: hidden characters as U+XXXX, cut at `limit` characters. */
export function shown(value, limit = 120) {
  const text = String(value ?? "").replace(
    HIDDEN,
    (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
  const characters = [...text];
  return characters.length > limit ? `${characters.slice(0, limit - 1).join("")}…` : text;
}

/** An element with attributes, listeners (`onclick` …) and children (nodes or text). */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(shown(child, 400)));
  }
  return element;
}

export const byId = (id) => document.getElementById(id);

/** What a list shows when it has no rows: a title and what to do next. */
export function empty(title, next) {
  return el("div", { class: "empty" }, el("strong", {}, title), el("p", {}, next));
}

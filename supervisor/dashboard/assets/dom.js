// Building DOM nodes. Text from outside becomes text nodes here and nowhere becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/** Element `tag` with properties and children; a child is a node, a string, or nothing. */
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") el.className = value;
    else if (name === "data") Object.assign(el.dataset, value);
    else if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else el.setAttribute(name, value === true ? "" : String(value));
  }
  el.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return el;
}

/** A 16×16 line icon from one path. */
export function icon(path, size = 14) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ viewBox: "0 0 16 16", width: size, height: size, "aria-hidden": "true" })) {
    svg.setAttribute(name, value);
  }
  const line = document.createElementNS(SVG, "path");
  for (const [name, value] of Object.entries({
    d: path, fill: "none", stroke: "currentColor", "stroke-width": "1.6", "stroke-linecap": "round", "stroke-linejoin": "round",
  })) line.setAttribute(name, value);
  svg.append(line);
  return svg;
}

export const ICONS = {
  chevron: "M6 3.5 10.5 8 6 12.5",
  check: "M3 8.5 6.5 12 13 4.5",
  cross: "M4 4l8 8M12 4l-8 8",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  tool: "M3 4.5 6 7.5 3 10.5M8 11h5",
  warn: "M8 2.5 14.5 13.5h-13zM8 6.5v3M8 11.5v.1",
};

/** Change the text only when it differs, so that a screen reader and a selection are left alone. */
export function setText(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

/** Put `text` on the clipboard, also where the asynchronous clipboard is missing (no secure context). */
export async function copyText(text) {
  if (navigator.clipboard?.writeText) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = h("textarea", { class: "visually-hidden", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser refused to copy");
}

/** A button that copies what `text()` gives and says so. */
export function copyButton(text) {
  const label = h("span", {}, "Copy");
  const button = h("button", { type: "button", class: "copy", "aria-label": "Copy" }, icon(ICONS.copy, 13), label);
  let back;
  button.addEventListener("click", async () => {
    try {
      await copyText(text());
      setText(label, "Copied");
    } catch {
      setText(label, "Not allowed");
    }
    clearTimeout(back);
    back = setTimeout(() => setText(label, "Copy"), 1600);
  });
  return button;
}

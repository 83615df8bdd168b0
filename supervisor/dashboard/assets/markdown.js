// A small Markdown reader: text to a tree of plain objects, and the tree to DOM nodes. HTML in the text stays text,
// images become links, links lead to http and https only. Unfinished text (an answer that is still coming) is fine.

import { copyButton, h } from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}>\s?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(?:\s+|$)(.*)$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const NESTING_MAX = 8;

/** Blocks of `text`: `{kind, source, …}`. Two blocks with the same source look the same. */
export function blocks(text, depth = 0) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const out = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const start = at;
    const block = fence(lines, at) ?? single(lines, at) ?? nested(lines, at, depth) ?? table(lines, at) ?? paragraph(lines, at);
    at = block.end;
    delete block.end;
    block.source = lines.slice(start, at).join("\n");
    out.push(block);
  }
  return out;
}

function fence(lines, at) {
  const open = FENCE.exec(lines[at]);
  if (!open) return undefined;
  const [mark, info] = [open[1], open[2].trim()];
  const close = new RegExp(`^ {0,3}${mark[0]}{${mark.length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !close.test(lines[end])) end += 1;
  return { kind: "code", lang: info.split(/\s/)[0], text: lines.slice(at + 1, end).join("\n"), end: Math.min(end + 1, lines.length) };
}

function single(lines, at) {
  const heading = HEADING.exec(lines[at]);
  if (heading) return { kind: "heading", level: heading[1].length, text: heading[2], end: at + 1 };
  if (RULE.test(lines[at])) return { kind: "rule", end: at + 1 };
  return undefined;
}

function nested(lines, at, depth) {
  if (depth >= NESTING_MAX) return undefined;
  if (QUOTE.test(lines[at])) {
    let end = at;
    while (end < lines.length && lines[end].trim() && (QUOTE.test(lines[end]) || !startsBlock(lines[end]))) end += 1;
    const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
    return { kind: "quote", blocks: blocks(inner.join("\n"), depth + 1), end };
  }
  return ITEM.test(lines[at]) ? list(lines, at, depth) : undefined;
}

function startsBlock(line) {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || ITEM.test(line) || QUOTE.test(line);
}

function list(lines, at, depth) {
  const first = ITEM.exec(lines[at]);
  const indent = first[1].length;
  const ordered = /\d/.test(first[2]);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (!item || item[1].length > indent + 1 || item[1].length < indent || /\d/.test(item[2]) !== ordered || RULE.test(lines[end])) break;
    const inside = indent + item[2].length + 1;
    const body = [item[3]];
    end += 1;
    while (end < lines.length && belongs(lines, end, indent)) {
      body.push(lines[end].replace(new RegExp(`^\\s{0,${inside}}`), ""));
      end += 1;
    }
    while (body.length > 1 && !body.at(-1).trim()) body.pop();
    const task = /^\[([ xX])\]\s+/.exec(body[0]);
    if (task) body[0] = body[0].slice(task[0].length);
    items.push({ checked: task ? task[1] !== " " : undefined, blocks: blocks(body.join("\n"), depth + 1) });
  }
  const start = ordered ? Number.parseInt(first[2], 10) : undefined;
  return { kind: "list", ordered, start, items, end };
}

/** Whether the line goes on with the item before it: deeper, or a lazy line, or a blank line before a deeper one. */
function belongs(lines, at, indent) {
  const line = lines[at];
  if (!line.trim()) {
    const next = lines.slice(at + 1).find((l) => l.trim());
    return next !== undefined && (/^\s*/.exec(next)[0].length > indent + 1 || sibling(next, indent));
  }
  if (/^\s*/.exec(line)[0].length > indent + 1) return true;
  return !startsBlock(line) && Boolean(lines[at - 1].trim());
}

function sibling(line, indent) {
  const item = ITEM.exec(line);
  return Boolean(item) && item[1].length === indent && !RULE.test(line);
}

function table(lines, at) {
  if (!lines[at].includes("|") || at + 1 >= lines.length || !TABLE_RULE.test(lines[at + 1]) || !lines[at + 1].includes("-")) return undefined;
  const cells = (line) => line.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map((c) => c.trim().replaceAll("\\|", "|"));
  const head = cells(lines[at]);
  const align = cells(lines[at + 1]).map((c) => (c.endsWith(":") ? (c.startsWith(":") ? "center" : "right") : undefined));
  if (head.length !== align.length) return undefined;
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|") && lines[end].trim()) end += 1;
  const rows = lines.slice(at + 2, end).map((line) => head.map((_, i) => cells(line)[i] ?? ""));
  return { kind: "table", head, align, rows, end };
}

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !startsBlock(lines[end])) end += 1;
  return { kind: "paragraph", text: lines.slice(at, end).map((l) => l.trimStart()).join("\n"), end };
}

const INLINE = [
  ["code", /(`+)(?!`)([\s\S]*?[^`])\1(?!`)/y],
  ["escape", /\\([!-/:-@[-`{-~])/y],
  ["link", /!?\[((?:[^[\]\\]|\\.|\[[^[\]]*\])*)\]\(\s*<?((?:[^\s()<>]|\([^\s()]*\))*)>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/y],
  ["auto", /<(https?:\/\/[^\s<>]+)>/y],
  ["bare", /https?:\/\/[^\s<>"'`\]]+/y],
  ["strong", /(\*\*|__)(?=\S)([\s\S]*?\S)\1(?!\*)/y],
  ["strike", /(~~)(?=\S)([\s\S]*?\S)~~/y],
  ["em", /(\*|_)(?=[^\s*_])([\s\S]*?[^\s*_])\1(?![\p{L}\p{N}])/yu],
];
const SPECIAL = /[`\\![<*_~h]/g;

/** Spans of `text`: strings and `{kind, …}`. */
export function spans(text, depth = 0) {
  const out = [];
  let plain = "";
  let at = 0;
  const put = (span) => {
    if (plain) out.push(plain);
    plain = "";
    out.push(span);
  };
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text)?.index ?? text.length;
    plain += text.slice(at, next);
    at = next;
    if (at >= text.length) break;
    const found = depth < NESTING_MAX ? match(text, at) : undefined;
    if (!found) {
      plain += text[at];
      at += 1;
      continue;
    }
    const [kind, hit] = found;
    at += hit[0].length;
    if (kind === "escape") plain += hit[1];
    else if (kind === "code") put({ kind, text: hit[2].replace(/^ (.+) $/s, "$1") });
    else if (kind === "link") put(link(hit[2], hit[1] || hit[2], depth));
    else if (kind === "auto") put({ kind: "link", href: hit[1], spans: [hit[1]] });
    else if (kind === "bare") {
      const url = trimUrl(hit[0]);
      at -= hit[0].length - url.length;
      put({ kind: "link", href: url, spans: [url] });
    } else put({ kind, spans: spans(hit[2], depth + 1) });
  }
  if (plain) out.push(plain);
  return out;
}

function match(text, at) {
  const inWord = at > 0 && /[\p{L}\p{N}]/u.test(text[at - 1]);
  for (const [kind, pattern] of INLINE) {
    if (inWord && (kind === "bare" || ((kind === "em" || kind === "strong") && text[at] === "_"))) continue;
    pattern.lastIndex = at;
    const hit = pattern.exec(text);
    if (hit) return [kind, hit];
  }
  return undefined;
}

function link(href, label, depth) {
  return { kind: "link", href, spans: spans(label, depth + 1) };
}

/** Without the punctuation that ends the sentence, and without a bracket that opened before the address. */
function trimUrl(url) {
  let out = url.replace(/[.,;:!?*_~]+$/, "");
  while (out.endsWith(")") && out.split(")").length > out.split("(").length) out = out.slice(0, -1);
  return out;
}

/** The address if it may be followed: http or https, absolute. */
export function safeHref(href) {
  try {
    const url = new URL(href);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : undefined;
  } catch {
    return undefined;
  }
}

function spanNodes(list) {
  return list.flatMap((span) => {
    if (typeof span === "string") return withBreaks(span);
    if (span.kind === "code") return [h("code", {}, span.text)];
    if (span.kind !== "link") return [h({ strong: "strong", em: "em", strike: "s" }[span.kind], {}, spanNodes(span.spans))];
    const href = safeHref(span.href);
    if (!href) return spanNodes(span.spans);
    return [h("a", { href, target: "_blank", rel: "noopener noreferrer" }, spanNodes(span.spans))];
  });
}

function withBreaks(text) {
  return text.split("\n").flatMap((line, i) => (i ? [h("br"), line] : [line]));
}

function inline(text) {
  return spanNodes(spans(text));
}

function codeNode({ lang, text }) {
  const head = h("div", { class: "code-head" }, h("span", {}, lang || "text"), copyButton(() => text));
  return h("div", { class: "code" }, head, h("pre", { tabindex: "0" }, h("code", {}, text)));
}

function itemNodes(item) {
  const box = item.checked === undefined ? [] : [h("input", { type: "checkbox", disabled: true, checked: item.checked })];
  const [first, ...rest] = item.blocks;
  if (first?.kind === "paragraph") return [...box, ...inline(first.text), ...rest.map(blockNode)];
  return [...box, ...item.blocks.map(blockNode)];
}

function tableNode({ head, align, rows }) {
  const cell = (tag) => (text, i) => h(tag, { class: align[i] && `align-${align[i]}` }, inline(text));
  const body = rows.map((row) => h("tr", {}, row.map(cell("td"))));
  return h("div", { class: "table", tabindex: "0" },
    h("table", {}, h("thead", {}, h("tr", {}, head.map(cell("th")))), h("tbody", {}, body)));
}

function blockNode(block) {
  switch (block.kind) {
    case "code": return codeNode(block);
    case "heading": return h(`h${Math.min(block.level + 2, 6)}`, {}, inline(block.text));
    case "rule": return h("hr");
    case "quote": return h("blockquote", {}, block.blocks.map(blockNode));
    case "list": {
      const start = block.ordered && block.start !== 1 ? block.start : undefined;
      return h(block.ordered ? "ol" : "ul", { start }, block.items.map((item) =>
        h("li", { class: item.checked !== undefined && "task" }, itemNodes(item))));
    }
    case "table": return tableNode(block);
    default: return h("p", {}, inline(block.text));
  }
}

/** Shows growing text in `el`: only blocks that changed are made anew. */
export class MarkdownView {
  constructor(el) {
    this.el = el;
    this.shown = [];
  }

  update(text) {
    if (text === this.text) return;
    this.text = text;
    const next = blocks(text);
    let same = 0;
    while (same < next.length && same < this.shown.length && next[same].source === this.shown[same].source) same += 1;
    for (const { node } of this.shown.splice(same)) node.remove();
    for (const block of next.slice(same)) {
      const node = blockNode(block);
      this.el.append(node);
      this.shown.push({ source: block.source, node });
    }
  }
}

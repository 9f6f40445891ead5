// The map's twin: the same edges as a table, sortable, for keyboards and screen readers.

import { CLASSES, classOf, encryptionText, matches, undocumented, verdictText } from "./edges.js";
import { DIFFERENCES } from "./difference.js";
import { ago, bytes, count, portName } from "./format.js";
import { byId, el, empty, shown } from "./dom.js";

const peerText = (peer) => (peer.kind === "workload" ? `${peer.namespace}/${peer.name}` : peer.name);
const TITLES = Object.fromEntries(CLASSES.map((each) => [each.name, each.title]));
const ORDER = CLASSES.map((each) => each.name);

const COLUMNS = [
  { name: "source", title: "Source", sort: (e) => e.source.id, cell: (e) => peerCell(e.source) },
  { name: "destination", title: "Destination", sort: (e) => e.destination.id, cell: (e) => peerCell(e.destination) },
  { name: "port", title: "Port", sort: (e) => e.port ?? -1, cell: portCell },
  { name: "application", title: "App", sort: (e) => e.applications.join(), cell: (e) => shown(e.applications.join(", ") || "–", 40) },
  { name: "encryption", title: "Encryption", sort: (e) => encryptionText(e.encryption), cell: encryptionCell },
  { name: "verdict", title: "Verdict", sort: (e) => ORDER.indexOf(classOf({ ...e, difference: null })), cell: verdictCell },
  { name: "connections", title: "Conns", sort: (e) => e.connections, cell: (e) => count(e.connections), number: true },
  { name: "bytes", title: "Bytes", sort: (e) => e.bytes, cell: (e) => bytes(e.bytes), number: true },
  { name: "seen", title: "Seen", sort: (e) => e.last_seen, cell: (e) => el("time", { datetime: e.last_seen, title: e.last_seen }, ago(e.last_seen).replace(" ago", "")), number: true },
];

// Stands before the others while two times are compared.
const DIFFERENCE = { name: "difference", title: "Change", sort: (e) => CHANGES.indexOf(e.difference), cell: changeCell };
const CHANGES = DIFFERENCES.map((each) => each.name);
const columnsOf = (edges) => (edges.some((edge) => edge.difference) ? [DIFFERENCE, ...COLUMNS] : COLUMNS);

const sorting = { column: COLUMNS[5], down: false };
let latest = { edges: [], state: {} };
let choose = () => {};
let scrolledTo = "";

function peerCell(peer) {
  const where = peer.kind === "workload" ? `${peer.namespace} · ${peer.host}` : peer.known_as ? `${peer.known_as}, by ${peer.named_by}` : peer.kind;
  return [el("span", { class: "name" }, shown(peer.name, 48)), " ", el("span", { class: "where" }, shown(where, 48))];
}

function portCell(edge) {
  const text = edge.port === null ? edge.protocol : `${edge.port}/${edge.protocol}`;
  if (!undocumented(edge)) return el("span", { class: "mono", title: edge.documented ? `documented by ${edge.documented}` : null }, text);
  return [el("span", { class: "mono" }, text), " ", el("span", { class: "tag staged" }, "undocumented")];
}

function encryptionCell(edge) {
  const status = edge.encryption.status;
  const crossing = status === "plaintext" && edge.crosses_hosts ? ", cross-host" : "";
  return el("span", { class: `status ${status}` }, shown(encryptionText(edge.encryption) + crossing, 60));
}

function verdictCell(edge) {
  const name = classOf({ ...edge, difference: null });
  const text = name === "staged" ? "would be denied" : verdictText(edge.verdict);
  return el("span", { class: `status ${name === "denied" || name === "staged" ? name : "calm"}`, title: TITLES[name] }, text);
}

function changeCell(edge) {
  const { title, name } = DIFFERENCES.find((each) => each.name === edge.difference);
  return [el("span", { class: `status ${name}` }, title), edge.change ? el("span", { class: "where" }, ` ${shown(edge.change, 80)}`) : null];
}

export function createTable({ onselect }) {
  choose = onselect;
  head(COLUMNS);
  byId("edges-body").addEventListener("keydown", moveFocus);
}

/** The heads of these columns, sorted by the first of them where it was not there before. */
function head(columns) {
  const row = byId("edges-head");
  if (row.children.length === columns.length) return;
  if (row.children.length) Object.assign(sorting, { column: columns[0] === DIFFERENCE ? DIFFERENCE : COLUMNS[5], down: false });
  row.replaceChildren();
  for (const column of columns) {
    const button = el("button", { type: "button", onclick: () => sortBy(column) }, column.title);
    row.append(el("th", { scope: "col", "data-column": column.name, class: column.number ? "number" : null }, button));
  }
}

function sortBy(column) {
  sorting.down = sorting.column === column ? !sorting.down : Boolean(column.number);
  sorting.column = column;
  updateTable(latest.edges, latest.state);
}

function moveFocus(event) {
  const row = event.target.closest("tr");
  const next = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling }[event.key];
  if (next) {
    event.preventDefault();
    next.focus();
  } else if (event.key === "Enter" && row?.dataset.edge) {
    event.preventDefault();
    choose({ edge: row.dataset.edge, workload: "" });
  }
}

function compare(a, b) {
  const [left, right] = [sorting.column.sort(a), sorting.column.sort(b)];
  const order = typeof left === "number" ? left - right : String(left).localeCompare(String(right));
  return (sorting.down ? -order : order) || a.id.localeCompare(b.id);
}

function rowOf(edge, { chosen, columns }) {
  const label = `${peerText(edge.source)} to ${peerText(edge.destination)}, port ${portName(edge)}`;
  return el(
    "tr",
    {
      tabindex: 0, "data-edge": edge.id, "aria-label": shown(label, 200), "aria-selected": chosen ? "true" : "false",
      onclick: () => choose({ edge: edge.id, workload: "" }),
    },
    columns.map((column) => el("td", { class: column.number ? "number" : null }, column.cell(edge))),
  );
}

/** Show the edges that the search and the selection leave, in the order chosen. */
export function updateTable(edges, state) {
  latest = { edges, state };
  const columns = columnsOf(edges);
  head(columns);
  const touches = (edge) => !state.workload || [edge.source.id, edge.destination.id].includes(state.workload);
  const rows = edges.filter((edge) => matches(edge, state.q) && touches(edge)).sort(compare);
  for (const cell of byId("edges-head").children) {
    const sorted = cell.dataset.column === sorting.column.name;
    if (sorted) cell.setAttribute("aria-sort", sorting.down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
  const focused = document.activeElement?.closest?.("#edges-body tr")?.dataset.edge;
  const body = byId("edges-body");
  body.replaceChildren(...rows.map((edge) => rowOf(edge, { chosen: edge.id === state.edge, columns })));
  if (focused) body.querySelector(`tr[data-edge="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  if (state.edge !== scrolledTo) {
    scrolledTo = state.edge;
    body.querySelector('tr[aria-selected="true"]')?.scrollIntoView({ block: "nearest" });
  }
  byId("edges-count").textContent = rows.length === edges.length ? `${edges.length}` : `${rows.length} of ${edges.length}`;
  byId("edges-empty").replaceChildren(...(rows.length ? [] : [edges.length
    ? empty("Nothing matches.", "Press Esc to clear the search and the selection.")
    : state.at ? empty("No conversation was seen.", "Nobody talked in this time, or nobody watched.")
    : empty("No conversation seen yet.", "Edges appear within seconds of the first packet between two workloads.")]));
}

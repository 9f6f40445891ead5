// The map: workloads in boxes, edges between them. Laid out once per grouping and kept; a live
// update never moves what is already there.

import { drawnClass, matches } from "./edges.js";
import { byId, shown } from "./dom.js";
import { layOutAll } from "./layout.js";
import { drawMarks } from "./marks.js";
import { mapStyle, palette } from "./map-style.js";

const TOOLS = 34; // pixels at the right edge that the buttons cover
const NEAR = 90; // pixels from its neighbours where a new node appears
const KEPT = 2000; // positions kept per grouping

let cy;
let grouping = "all";
let select = () => {};

export function createMap(container, { onselect, reducedMotion }) {
  select = onselect;
  cy = cytoscape({
    container,
    style: mapStyle(),
    minZoom: 0.15,
    maxZoom: 2.5,
    boxSelectionEnabled: false,
    autounselectify: true,
  });
  cy.on("tap", "edge", (event) => select({ edge: event.target.id(), workload: "" }));
  cy.on("tap", "node.peer", (event) => select({ workload: event.target.id(), edge: "" }));
  cy.on("tap", (event) => event.target === cy && select({ edge: "", workload: "" }));
  cy.on("mouseover", "edge, node.peer", (event) => hover(event.target, true));
  cy.on("mouseout", "edge, node.peer", (event) => hover(event.target, false));
  cy.on("dragfree", "node", () => keepPositions());
  const marks = container.parentElement.querySelector("canvas.marks");
  cy.on("render", () => drawMarks(marks, cy, palette()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => restyle());
  createMap.animate = !reducedMotion;
  return cy;
}

const restyle = () => cy.style().fromJson(mapStyle()).update();

function hover(element, on) {
  cy.container().style.cursor = on ? "pointer" : "";
  element.toggleClass("hover", on);
}

// ---- what is drawn ----

const boxesOf = {
  all: (node) => [["host", node.host], ["project", node.namespace]],
  project: (node) => [["project", node.namespace]],
  host: (node) => [["host", node.host]],
  none: () => [],
};

/** The boxes around a node, outermost first; a group that spans hosts has no host's box. */
function boxesFor(node) {
  if (node.kind === "external" || node.kind === "host") return [];
  const named = boxesOf[grouping](node).filter(([, name]) => name);
  return named.map(([kind, name], depth) => ({
    id: `box:${named.slice(0, depth + 1).map((each) => each.join(":")).join("/")}`,
    kind,
    label: shown(kind === "host" ? `host ${name}` : name, 36),
  }));
}

function nodeElement(node, parent) {
  const name = node.kind === "host" ? `host ${node.label}` : node.label;
  const label = shown(node.members > 1 ? `${name} · ${node.members}` : name, 22);
  const alerts = node.badges.alerts;
  const data = { id: node.id, label, parent, width: Math.max(52, [...label].length * 7.6 + 24), alerts };
  const classes = ["peer", node.kind, alerts ? "alerted" : "", node.silent ? "silent" : ""];
  return { group: "nodes", data, classes: classes.filter(Boolean).join(" ") };
}

function edgeElement(edge) {
  const open = edge.encryption === "plaintext";
  const data = { id: edge.id, source: edge.source, target: edge.target, label: shown(edge.protocol === "tcp" && edge.port ? edge.port : edge.label, 18), open, undocumented: edge.documented === false };
  return { group: "edges", data, classes: drawnClass(edge) };
}

function elementsOf(map) {
  const elements = new Map();
  for (const node of map.nodes) {
    let parent;
    for (const box of boxesFor(node)) {
      const data = { id: box.id, label: box.label, parent };
      if (!elements.has(box.id)) elements.set(box.id, { group: "nodes", data, classes: `box ${box.kind}` });
      parent = box.id;
    }
    elements.set(node.id, nodeElement(node, parent));
  }
  for (const edge of map.edges) {
    if (elements.has(edge.source) && elements.has(edge.target)) elements.set(edge.id, edgeElement(edge));
  }
  return elements;
}

/** Show this map; keeps every position, adds what is new near its neighbours. */
export function updateMap(map, group) {
  const regrouped = group !== grouping;
  grouping = group;
  const wanted = elementsOf(map);
  const fresh = [];
  const first = cy.nodes(".peer").empty();
  cy.batch(() => {
    if (regrouped) cy.elements().remove();
    cy.elements().forEach((element) => {
      if (!wanted.has(element.id())) element.remove();
    });
    for (const element of wanted.values()) {
      const present = cy.getElementById(element.data.id);
      if (present.empty()) {
        fresh.push(element);
      } else {
        const { id, source, target, parent, ...data } = element.data;
        present.data(data);
        if (present.isNode() && (present.data("parent") ?? null) !== (parent ?? null)) present.move({ parent: parent ?? null });
        const kept = ["dim", "chosen", "near", "hover"].filter((name) => present.hasClass(name));
        present.classes([...element.classes.split(" "), ...kept]);
      }
    }
    cy.add(fresh);
  });
  if (first || regrouped) place();
  else if (fresh.some((element) => element.group === "nodes")) placeNew(fresh);
}

// ---- where it is drawn ----

const storeKey = () => `netwatch.positions.${grouping}`;

function keptPositions() {
  try {
    return JSON.parse(localStorage.getItem(storeKey())) ?? {};
  } catch {
    return {}; // unreadable or forbidden: laid out afresh
  }
}

/** Keeps where nodes are; by default also of those that are not there at this time. */
function keepPositions(positions = keptPositions()) {
  cy.nodes(".peer").slice(0, KEPT).forEach((node) => {
    const { x, y } = node.position();
    positions[node.id()] = [Math.round(x), Math.round(y)];
  });
  for (const id of Object.keys(positions).slice(0, -KEPT)) delete positions[id];
  try {
    localStorage.setItem(storeKey(), JSON.stringify(positions));
  } catch {
    // private windows keep nothing; the map is laid out again next time
  }
}

function place() {
  const peers = cy.nodes(".peer");
  if (peers.empty()) return;
  const kept = keptPositions();
  const known = peers.filter((node) => Array.isArray(kept[node.id()]));
  if (known.length >= peers.length / 2) {
    known.positions((node) => ({ x: kept[node.id()][0], y: kept[node.id()][1] }));
    peers.difference(known).forEach(placeNearNeighbours);
    fit();
    return;
  }
  layOut();
}

/** Lay everything out afresh and keep the result. */
export function layOut() {
  if (cy.nodes(".peer").empty()) return;
  layOutAll(cy);
  keepPositions({});
  fit();
}

function placeNew(fresh) {
  const kept = keptPositions();
  for (const element of fresh) {
    if (element.group === "nodes" && !element.classes.startsWith("box")) {
      const node = cy.getElementById(element.data.id);
      const spot = kept[element.data.id];
      if (Array.isArray(spot)) node.position({ x: spot[0], y: spot[1] });
      else placeNearNeighbours(node);
    }
  }
  keepPositions();
}

function placeNearNeighbours(node) {
  const friends = node.neighborhood(".peer").union(node.siblings(".peer")).difference(node);
  const seen = cy.nodes(".peer").difference(node);
  const around = (friends.nonempty() ? friends : seen).boundingBox();
  const taken = seen.map((other) => other.position());
  const centre = { x: (around.x1 + around.x2) / 2, y: (around.y1 + around.y2) / 2 };
  for (let step = 1; step < 60; step += 1) {
    const angle = step * 2.4; // the golden angle: a spiral that leaves no gap
    const far = NEAR * Math.sqrt(step);
    const spot = { x: centre.x + far * Math.cos(angle), y: centre.y + far * Math.sin(angle) };
    if (taken.every((p) => Math.abs(p.x - spot.x) > 80 || Math.abs(p.y - spot.y) > 44)) {
      node.position(spot);
      return;
    }
  }
  node.position({ x: around.x2 + NEAR, y: centre.y });
}

export function fit() {
  cy.resize();
  const covered = byId("legend").offsetHeight + 14; // the legend lies over the lower edge
  const box = cy.elements().boundingBox();
  if (!box.w || !box.h) return;
  cy.zoom(Math.min((cy.width() - TOOLS - 40) / box.w, (cy.height() - covered - 30) / box.h));
  cy.center(cy.elements());
  if (cy.zoom() > 1.4) {
    cy.zoom(1.4);
    cy.center(cy.elements());
  }
  cy.panBy({ x: -TOOLS / 2, y: -covered / 2 });
}

export function zoomBy(factor) {
  cy.zoom({ level: cy.zoom() * factor, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
}

// ---- what is emphasised ----

/** Dim what the search leaves out, and what the selection does not touch. */
export function emphasise({ map, edges }, { q, edge, workload }) {
  cy.batch(() => {
    cy.elements().removeClass("dim chosen near");
    if (q.trim()) {
      const kept = new Set(edges.filter((each) => matches(each, q)).map((each) => each.id));
      const grouped = (each) => map.aggregated && each.id().toLowerCase().includes(q.trim().toLowerCase());
      const left = cy.edges().filter((each) => !kept.has(each.id()) && !grouped(each));
      left.addClass("dim");
      const touched = cy.edges().difference(left).connectedNodes();
      const named = cy.nodes(".peer").filter((node) => node.id().toLowerCase().includes(q.trim().toLowerCase()));
      cy.nodes(".peer").difference(touched).difference(named).addClass("dim");
    }
    const chosen = cy.getElementById(edge || workload || "");
    if (chosen.empty()) return;
    const near = chosen.isEdge() ? chosen.connectedNodes() : chosen.neighborhood();
    cy.elements(".peer, edge").difference(near).difference(chosen).addClass("dim");
    near.addClass("near");
    chosen.removeClass("dim").addClass("chosen");
  });
}

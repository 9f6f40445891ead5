// The page: fetches once, then follows the stream, and hands the same state to every view.

import { ApiError, follow, get, readOnly } from "./api.js";
import { createAlerts, updateAlerts } from "./alerts.js";
import { CLASSES, classOf } from "./edges.js";
import { DIFFERENCES, withDifference } from "./difference.js";
import { count } from "./format.js";
import { byId, el, empty, shown } from "./dom.js";
import { hostStrip, lossBanner } from "./hosts.js";
import { createMap, emphasise, fit, layOut, updateMap, zoomBy } from "./map.js";
import { createPanel, updatePanel } from "./panel.js";
import { GROUPS, isPast, onState, setState, state } from "./state.js";
import { createTable, updateTable } from "./table.js";
import { createTime, stepBy, timeBanners, updateObserved, updateTime } from "./time.js";

const PAUSE = 1000; // milliseconds between two refreshes, however fast changes come
const ROWS = 1500; // of the table; more are reached by search on the server

const SCALE = 60_000; // milliseconds after which the scale of time has moved on
const TIMES = ["at", "before", "window"];

const view = { map: { nodes: [], edges: [] }, edges: [], workloads: [], hosts: [], alerts: [], losses: {}, gaps: [], difference: null, loaded: false };

function render({ renew = false } = {}) {
  timeBanners(view);
  updateMap(view.map, state.group);
  emphasise(view, state);
  updateTable(view.edges, state);
  updatePanel({ ...view, state, renew });
  legend();
  byId("workloads-count").textContent = count(isPast() ? view.map.nodes.filter((node) => node.kind === "workload").length : view.workloads.length);
  byId("map-edges-count").textContent = count(view.edges.length);
  const shownAny = view.map.nodes.length > 0;
  byId("map-empty").replaceChildren(...(shownAny || !view.loaded ? [] : [isPast()
    ? empty("Nobody was seen to talk.", "Choose another time, or a longer one before it; hatched times were not observed.")
    : empty("No workload seen yet.", "Start a container on this host, or run “netwatch agent” on another one. Workloads appear here by themselves.")]));
}

let legendOf = null;

function legend() {
  const classes = view.difference ? DIFFERENCES : CLASSES;
  if (legendOf !== classes) {
    legendOf = classes;
    byId("legend").replaceChildren(...classes.map((each) => el("button", { type: "button", "data-class": each.name, "aria-pressed": "false", title: each.detail, onclick: () => toggleTerm(`is:${each.name}`) },
      el("i", { class: `key ${each.name}`, "aria-hidden": "true" }), each.title, " ", el("span", { class: "count" }, "0"))));
  }
  const counts = {};
  for (const edge of view.edges) counts[classOf(edge)] = (counts[classOf(edge)] ?? 0) + 1;
  for (const button of byId("legend").querySelectorAll("button")) {
    const term = `is:${button.dataset.class}`;
    button.setAttribute("aria-pressed", String(state.q.split(/\s+/).includes(term)));
    button.querySelector(".count").textContent = counts[button.dataset.class] ?? 0;
  }
}

function toggleTerm(term) {
  const terms = state.q.split(/\s+/).filter(Boolean);
  const left = terms.filter((each) => each !== term);
  setState({ q: (left.length === terms.length ? [...terms, term] : left).join(" ") });
}

// ---- fetching ----

let running = false;
let again = false;
let last = 0;

let shownTimes = null; // the past does not change: it is fetched once

/** Map and edges of the time that is looked at, and what differs if two are compared. */
async function fetchTalk() {
  const when = isPast() ? { at: state.at, window: state.window } : {};
  const [map, edges, compared] = await Promise.all([
    get("map", when), get("edges", { ...when, limit: ROWS }),
    state.before ? get("edges/compare", { before: state.before, after: state.at, window: state.window }) : null,
  ]);
  const talk = compared ? withDifference(edges.edges, map, compared) : { map, edges: edges.edges };
  const difference = compared && { new: compared.new.length, gone: compared.gone.length, changed: compared.changed.length, omitted: compared.omitted };
  return { ...talk, difference, gaps: (compared ?? map).gaps, more: edges.next !== null };
}

/** Fetch everything shown; calls that come meanwhile become one more fetch. */
async function refresh() {
  if (running) {
    again = true;
    return;
  }
  running = true;
  await new Promise((done) => setTimeout(done, Math.max(0, last + PAUSE - Date.now())));
  last = Date.now();
  try {
    const asked = TIMES.map((name) => state[name]).join();
    const [talk, workloads, hosts, alerts] = await Promise.all([
      isPast() && asked === shownTimes ? null : fetchTalk(), get("workloads", { limit: ROWS }), get("hosts"), get("alerts", { limit: 200 }),
    ]);
    if (asked !== TIMES.map((name) => state[name]).join()) { // another time was chosen meanwhile
      again = true;
      return;
    }
    const moved = shownTimes !== null && asked !== shownTimes;
    shownTimes = asked;
    Object.assign(view, talk, { workloads: workloads.workloads, hosts: hosts.hosts, alerts: alerts.alerts, loaded: true });
    updateAlerts(view.alerts, view.map);
    hostStrip(view.hosts);
    lossBanner({ ...view.map, losses: hosts.losses }, { more: view.more });
    byId("failure").hidden = true;
    byId("read-only").hidden = !readOnly;
    byId("read-only").textContent = `Read-only: nothing new can be kept. ${shown(readOnly, 300)} Reports wait at their agents and come in when there is room.`;
    render({ renew: true });
    if (moved) fit();
    document.body.dataset.ready = "true";
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    byId("failure").replaceChildren(`${shown(error.message)} ${shown(error.hint ?? "")} `, el("button", { type: "button", onclick: refresh }, "Try again"));
    byId("failure").hidden = false;
  } finally {
    running = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

function onlive(live) {
  const fresh = byId("live").dataset.live !== String(live);
  byId("live").dataset.live = String(live);
  byId("live-text").textContent = live ? "Connected" : "Not connected";
  byId("stale").hidden = live;
  if (live && fresh) refresh();
}

// ---- keys and buttons ----

const clear = () => setState({ q: "", edge: "", workload: "" });

const KEYS = {
  "/": () => byId("search").focus(),
  "?": () => byId("shortcuts").showModal(),
  g: () => setState({ group: GROUPS[(GROUPS.indexOf(state.group) + 1) % GROUPS.length] }),
  f: fit,
  l: layOut,
  "[": () => stepBy(-1),
  "]": () => stepBy(1),
  n: () => setState({ at: "", before: "" }),
  c: () => byId("compare").click(),
  t: () => (byId("edges-body").querySelector("tr") ?? byId("edges-head").querySelector("button")).focus(),
};

function onKey(event) {
  if (event.key === "Escape" && !byId("shortcuts").open) {
    clear();
    document.activeElement?.blur?.();
    return;
  }
  const typing = event.target.matches?.("input, textarea, select");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || byId("shortcuts").open) return;
  const act = KEYS[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
}

function start() {
  createMap(byId("map"), { onselect: setState, reducedMotion: matchMedia("(prefers-reduced-motion: reduce)").matches });
  createTable({ onselect: setState });
  createPanel({ onselect: setState });
  createAlerts({ onselect: setState, onchange: refresh });
  createTime();
  byId("search").value = state.q;
  byId("search").addEventListener("input", (event) => setState({ q: event.target.value }));
  byId("group").value = state.group;
  byId("group").addEventListener("change", (event) => setState({ group: event.target.value }));
  byId("fit").addEventListener("click", fit);
  byId("relayout").addEventListener("click", layOut);
  byId("zoom-in").addEventListener("click", () => zoomBy(1.25));
  byId("zoom-out").addEventListener("click", () => zoomBy(0.8));
  byId("help").addEventListener("click", () => byId("shortcuts").showModal());
  byId("logout").addEventListener("click", async () => {
    await fetch("/logout", { method: "POST", headers: { "X-Netwatch": "1" } });
    location.assign("/login");
  });
  addEventListener("keydown", onKey);
  addEventListener("resize", () => fit());
  onState((changed) => {
    if (changed.includes("q") && byId("search").value !== state.q) byId("search").value = state.q;
    byId("group").value = state.group;
    updateTime();
    if (changed.includes("span")) updateObserved();
    if (TIMES.some((name) => changed.includes(name))) refresh();
    render();
  });
  refresh();
  updateObserved();
  setInterval(updateObserved, SCALE);
  follow({ onchange: refresh, onlive });
}

start();

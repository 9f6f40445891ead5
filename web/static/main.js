// The page: fetches once, then follows the stream, and hands the same state to every view.

import { ApiError, follow, get } from "./api.js";
import { createAlerts, updateAlerts } from "./alerts.js";
import { CLASSES, classOf } from "./edges.js";
import { count } from "./format.js";
import { byId, el, empty, shown } from "./dom.js";
import { hostStrip, lossBanner } from "./hosts.js";
import { createMap, emphasise, fit, layOut, updateMap, zoomBy } from "./map.js";
import { createPanel, updatePanel } from "./panel.js";
import { GROUPS, onState, setState, state } from "./state.js";
import { createTable, updateTable } from "./table.js";

const PAUSE = 1000; // milliseconds between two refreshes, however fast changes come
const ROWS = 1500; // of the table; more are reached by search on the server

const view = { map: { nodes: [], edges: [] }, edges: [], workloads: [], hosts: [], alerts: [], losses: {}, loaded: false };

function render({ renew = false } = {}) {
  updateMap(view.map, state.group);
  emphasise(view, state);
  updateTable(view.edges, state);
  updatePanel({ ...view, state, renew });
  legend();
  byId("workloads-count").textContent = count(view.workloads.length);
  byId("map-edges-count").textContent = count(view.edges.length);
  const shownAny = view.map.nodes.length > 0;
  byId("map-empty").replaceChildren(...(shownAny || !view.loaded ? [] : [empty(
    "No workload seen yet.",
    "Start a container on this host, or run “netwatch agent” on another one. Workloads appear here by themselves.",
  )]));
}

function legend() {
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
    const [map, edges, workloads, hosts, alerts] = await Promise.all([
      get("map"), get("edges", { limit: ROWS }), get("workloads", { limit: ROWS }), get("hosts"), get("alerts", { limit: 200 }),
    ]);
    Object.assign(view, { map, edges: edges.edges, workloads: workloads.workloads, hosts: hosts.hosts, alerts: alerts.alerts, loaded: true });
    updateAlerts(view.alerts, view.map);
    hostStrip(view.hosts);
    lossBanner(map, { more: edges.next !== null });
    byId("failure").hidden = true;
    render({ renew: true });
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
  byId("live-text").textContent = live ? "Live" : "Not live";
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
  byId("legend").append(...CLASSES.map((each) => el("button", { type: "button", "data-class": each.name, "aria-pressed": "false", title: each.detail, onclick: () => toggleTerm(`is:${each.name}`) },
    el("i", { class: `key ${each.name}`, "aria-hidden": "true" }), each.title, " ", el("span", { class: "count" }, "0"))));
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
    render();
  });
  refresh();
  follow({ onchange: refresh, onlive });
}

start();

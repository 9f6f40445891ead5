// Alerts with their evidence, and the one-line announcement of a new one.

import { ApiError, post } from "./api.js";
import { ago, count } from "./format.js";
import { byId, el, empty, shown } from "./dom.js";

const EVIDENCE = 5; // items shown; the rest is counted

let known = null;
let choose = () => {};
let renew = () => {};

export function createAlerts({ onselect, onchange }) {
  choose = onselect;
  renew = onchange;
}

/** Show the open and acknowledged alerts, and announce those that were not there before. */
export function updateAlerts(alerts, map) {
  const shownAlerts = alerts.filter((alert) => alert.state !== "resolved");
  const open = shownAlerts.filter((alert) => alert.state === "open");
  byId("alerts-count").textContent = count(open.length);
  byId("alerts-count").classList.toggle("hot", open.length > 0);
  const fresh = known ? open.filter((alert) => !known.has(alert.id)) : [];
  known = new Set(alerts.map((alert) => alert.id));
  if (fresh.length) {
    const more = fresh.length > 1 ? ` and ${fresh.length - 1} more` : "";
    byId("announce").textContent = `New alert: ${shown(fresh[0].title, 160)}${more}`;
  }
  const unfolded = new Set([...byId("alerts-list").querySelectorAll("details[open]")].map((each) => each.dataset.alert));
  byId("alerts-list").replaceChildren(...(shownAlerts.length
    ? shownAlerts.map((alert) => alertItem(alert, map, unfolded.has(alert.id)))
    : [empty("No open alerts.", "A finding appears here with its evidence, and goes to every webhook receiver.")]));
}

function alertItem(alert, map, unfolded) {
  const evidence = alert.evidence.slice(0, EVIDENCE).map((item) => el("li", { class: "mono" }, shown(evidenceText(item), 300)));
  if (alert.evidence.length > EVIDENCE) evidence.push(el("li", {}, `and ${alert.evidence.length - EVIDENCE} more`));
  const workloads = alert.workloads.filter((id) => map.nodes.some((node) => node.id === id));
  return el("details", { class: `alert ${alert.severity} ${alert.state}`, "data-alert": alert.id, open: unfolded },
    el("summary", {},
      el("span", { class: `severity ${alert.severity}` }, alert.severity),
      el("span", { class: "title" }, shown(alert.title, 200)),
      el("span", { class: "when" }, `${alert.state === "open" ? "" : `${alert.state} · `}${ago(alert.opened)}`)),
    el("p", { class: "advice" }, shown(alert.advice, 400)),
    evidence.length ? el("ul", { class: "evidence" }, evidence) : null,
    el("div", { class: "actions" },
      workloads.slice(0, 3).map((id) => el("button", { type: "button", class: "link", onclick: () => choose({ workload: id, edge: "" }) }, shown(id.split("/").slice(-2).join("/"), 40))),
      alert.state === "open" ? action(alert, "acknowledge", "Acknowledge") : null,
      action(alert, "resolve", "Resolve")));
}

function evidenceText(item) {
  return Object.entries(item)
    .filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join("  ");
}

function action(alert, verb, title) {
  async function act(event) {
    event.target.disabled = true;
    try {
      await post(`/api/v1/alerts/${encodeURIComponent(alert.id)}/${verb}`);
      renew();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      event.target.disabled = false;
      byId("announce").textContent = error.message;
    }
  }
  return el("button", { type: "button", onclick: act }, title);
}

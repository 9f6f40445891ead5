// The strip of hosts, and the banner that says what was not seen.

import { ago, count } from "./format.js";
import { byId, el, shown } from "./dom.js";

// Counted like losses, so that nothing is left out in silence; but they are netwatch's own calls.
const SET_ASIDE = new Set(["own probes set aside", "denials of own probes"]);
const lostOf = (losses) => Object.entries(losses ?? {}).filter(([reason, number]) => number > 0 && !SET_ASIDE.has(reason));

export function hostStrip(hosts) {
  const list = byId("hosts");
  if (!hosts.length) {
    list.replaceChildren(el("li", { class: "none" }, "No agent has reported yet."));
    return;
  }
  list.replaceChildren(...hosts.map((host) => {
    const lost = lostOf(host.losses).reduce((sum, [, number]) => sum + number, 0);
    const method = host.capture?.method ?? "none";
    const problem = host.capture?.problem ?? host.enforcement?.problem;
    const drift = host.enforcement?.drift?.length ?? 0;
    const state = host.silent ? "silent" : problem || method === "none" || drift || host.skewed ? "troubled" : "well";
    return el("li", { class: `host ${state}`, title: shown(problem ?? "", 300) || null },
      el("i", { class: "dot", "aria-hidden": "true" }),
      el("strong", {}, shown(host.host, 32)),
      el("span", {}, host.silent ? `silent, last report ${ago(host.last_report)}` : `capture ${shown(method, 16)}`),
      host.silent ? null : el("span", {}, `report ${ago(host.last_report)}`),
      lost ? el("span", { class: "lost" }, `${count(lost)} lost`) : el("span", {}, "no loss"),
      host.skewed ? el("span", { class: "lost" }, `clock ${Math.round(Math.abs(host.clock_skew_ms) / 1000)} s ${host.clock_skew_ms > 0 ? "ahead" : "behind"}`) : null,
      drift ? el("span", { class: "lost" }, `${drift} drifted`) : null,
      problem ? el("span", { class: "lost" }, shown(problem, 60)) : null);
  }));
}

/** "No edge" must never mean "we lost it": says what was dropped, by reason, and what is not shown. */
export function lossBanner(map, { more }) {
  const lost = lostOf(map.losses);
  const reasons = lost.map(([reason, number]) => `${count(number)} ${shown(reason.replaceAll("-", " "), 60)}`).join(", ");
  const sentences = [
    lost.length && `Not everything was seen: ${reasons}. An absent edge may be a lost one.`,
    map.aggregated && `The map is grouped by ${map.aggregated}, for it has more than fits.`,
    map.omitted.edges && `${count(map.omitted.edges)} edges are not drawn.`,
    more && "The table shows the first edges only.",
  ].filter(Boolean);
  byId("losses").hidden = !sentences.length;
  byId("losses").textContent = sentences.join(" ");
}

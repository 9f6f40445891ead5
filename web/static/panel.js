// The side panel: one edge with its flows, or one workload with its addresses, ports and peers.

import { ApiError, get } from "./api.js";
import { CLASSES, classOf, encryptionText, protectionText, undocumented, verdictText } from "./edges.js";
import { DIFFERENCES } from "./difference.js";
import { ago, bytes, clock, count, portName } from "./format.js";
import { byId, el, empty, shown } from "./dom.js";
import { state } from "./state.js";

const FLOWS = 50; // newest flows of an edge that the panel lists

let choose = () => {};
let asked = 0;

export function createPanel({ onselect }) {
  choose = onselect;
  byId("panel-close").addEventListener("click", () => choose({ edge: "", workload: "" }));
}

const fact = (name, ...value) => [el("dt", {}, name), el("dd", {}, ...value)];

const peerLink = (peer) => el(
  "button",
  { type: "button", class: "link", onclick: () => choose({ workload: peer.id, edge: "" }) },
  shown(peer.kind === "workload" ? `${peer.namespace}/${peer.name}` : peer.known_as ? `${peer.known_as} (${peer.name})` : peer.name, 80),
);

/** Show what is selected, or nothing; `renew` fetches an edge's flows again. */
export function updatePanel({ map, edges, workloads, renew }) {
  const edge = edges.find((each) => each.id === state.edge);
  const node = map.nodes.find((each) => each.id === state.workload);
  byId("panel").hidden = !edge && !node;
  byId("side").classList.toggle("selected", Boolean(edge || node));
  if (edge) showEdge(edge, renew);
  else if (node) showWorkload(node, workloads.find((each) => each.id === node.id), edges);
}

function showEdge(edge, renew) {
  byId("panel-kind").textContent = "Edge";
  byId("panel-title").replaceChildren(peerLink(edge.source), " → ", peerLink(edge.destination));
  const name = classOf({ ...edge, difference: null });
  const { title, detail } = CLASSES.find((each) => each.name === name);
  const differs = edge.difference && DIFFERENCES.find((each) => each.name === edge.difference);
  const documented = edge.documented ? `documented by ${edge.documented}` : undocumented(edge) ? "nobody documented it" : "not a workload's port";
  byId("panel-facts").replaceChildren(
    ...(differs ? fact("Change", el("span", { class: `status ${differs.name}` }, differs.title), ` ${edge.change || differs.detail}`) : []),
    ...fact("State", el("span", { class: `status ${name}` }, title), ` ${detail}`),
    ...fact("Port", el("span", { class: "mono" }, edge.port === null ? edge.protocol : `${edge.port}/${edge.protocol}`), ` ${documented}`,
      edge.original_port && edge.original_port !== edge.port ? `, called as ${edge.original_port}` : ""),
    ...fact("Encryption", el("span", { class: `status ${edge.encryption.status}` }, shown(encryptionText(edge.encryption), 80)), edge.crosses_hosts ? " crosses hosts" : ""),
    ...(protectionText(edge) ? fact("On the wire", protectionText(edge)) : []),
    ...fact("Verdict", `${verdictText(edge.verdict)}; staged policies: ${verdictText(edge.staged)}`),
    ...fact("Seen", `${count(edge.connections)} connections, ${bytes(edge.bytes)}; first ${clock(edge.first_seen)}, last ${ago(edge.last_seen)}`),
  );
  const list = byId("panel-list");
  const of = `${edge.id} ${state.at} ${state.before} ${state.window}`;
  if (list.dataset.of !== of) {
    list.dataset.of = of;
    list.replaceChildren(el("p", { class: "loading", role: "status" }, "Loading flows…"));
  } else if (!renew) {
    return;
  }
  loadFlows(edge, list, { byHand: !renew });
}

/** Which flows: all, or those of the time that is looked at; what is gone talked earlier. */
function timeOf(edge) {
  const end = Date.parse(edge.difference === "gone" ? state.before : state.at);
  if (Number.isNaN(end)) return {};
  return { since: new Date(end - Number(state.window) * 1000).toISOString(), until: new Date(end + 1).toISOString() };
}

async function loadFlows(edge, list, { byHand = true } = {}) {
  asked += 1;
  const mine = asked;
  let content;
  try {
    const answer = await get("flows", { edge: edge.id, limit: FLOWS, ...timeOf(edge) }, { byHand });
    content = flowsTable(answer.flows, answer.next);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    content = [el("div", { class: "error", role: "alert" }, error.message, el("p", {}, error.hint ?? ""),
      el("button", { type: "button", onclick: () => loadFlows(edge, list) }, "Try again"))];
  }
  if (mine === asked && list.dataset.of.startsWith(`${edge.id} `)) list.replaceChildren(...content);
}

function flowsTable(flows, next) {
  const title = el("h3", {}, `Flows `, el("span", { class: "count" }, `${flows.length}${next ? "+" : ""}`));
  if (!flows.length) {
    return [title, empty("No single flow is kept.", "Older ones live on in this edge's totals; new ones appear here as they are seen.")];
  }
  return [title, el("ol", { class: "flows" }, flows.map(flowItem))];
}

/** The processes at both ends, and the name of a server outside with who named it. */
function holders(flow) {
  const process = (end, word) => end.process && `${word} ${end.process.exe ?? "?"} (${end.process.pid}, ${end.process.user ?? end.process.uid})`;
  return [process(flow.client, "from"), process(flow.server, "to"), flow.server.name && `${flow.server.name} by ${flow.server.named_by}`];
}

function flowItem(flow) {
  const { encryption } = flow;
  const address = (end) => (end.address.includes(":") ? `[${end.address}]` : end.address) + (end.port === null ? "" : `:${end.port}`);
  const details = [encryption.cipher, encryption.server_name && `SNI ${encryption.server_name}`, encryption.alpn && `ALPN ${encryption.alpn}`, flow.application, flow.state, ...holders(flow)].filter(Boolean);
  return el("li", {},
    el("div", { class: "line" },
      el("time", { datetime: flow.last_seen, title: flow.last_seen }, clock(flow.last_seen)),
      el("span", { class: `status ${encryption.status}` }, shown(encryptionText(encryption), 40)),
      el("span", { class: `status ${flow.verdict === "deny" ? "denied" : flow.staged === "deny" ? "staged" : "calm"}` },
        flow.verdict !== "deny" && flow.staged === "deny" ? "would be denied" : verdictText(flow.verdict)),
      el("span", { class: "size" }, bytes(flow.client_bytes + flow.server_bytes))),
    el("div", { class: "mono ends" }, `${shown(address(flow.client), 60)} → ${shown(address(flow.server), 60)}`),
    details.length ? el("div", { class: "details" }, shown(details.join(" · "), 240)) : null);
}

function showWorkload(node, workload, edges) {
  byId("panel-kind").textContent = { workload: "Workload", host: "Host", external: "External" }[node.kind] ?? node.kind;
  byId("panel-title").replaceChildren(el("span", {}, shown(node.label, 80)));
  const facts = workload ? workloadFacts(workload) : fact("Kind", node.kind === "host" ? "a host of the fleet" : "outside the fleet: no agent sees its side");
  byId("panel-facts").replaceChildren(...facts);
  const list = byId("panel-list");
  list.dataset.of = node.id;
  list.replaceChildren(...peers("Talks to", edges.filter((each) => each.source.id === node.id), "destination"),
    ...peers("Is called by", edges.filter((each) => each.destination.id === node.id), "source"),
    ...(workload ? labels(workload) : []));
}

function workloadFacts(workload) {
  const ports = workload.ports.map((each) => el("li", {}, el("span", { class: "mono" }, `${each.port}/${each.protocol}`), ` ${each.name ?? ""} `, el("span", { class: "where" }, `by ${each.source}`)));
  return [
    ...fact("Host", shown(workload.host, 80)),
    ...fact("Namespace", shown(workload.namespace, 80)),
    ...fact("Runtime", shown([workload.runtime, workload.image].filter(Boolean).join(" · "), 120)),
    ...fact("Addresses", el("span", { class: "mono" }, shown(workload.addresses.join("  ") || "none", 200)), workload.host_network ? " shares the host's network" : ""),
    ...fact("Documented", ports.length ? el("ul", { class: "ports" }, ports) : "no port is documented"),
  ];
}

function labels(workload) {
  const names = Object.keys(workload.labels);
  if (!names.length) return [];
  return [el("h3", {}, "Labels"), el("ul", { class: "labels" }, names.slice(0, 40).map((name) => el("li", { title: `source: ${workload.label_sources[name]}` }, shown(`${name}=${workload.labels[name]}`, 80))))];
}

function statusOf(edge) {
  const name = classOf(edge);
  const { title } = [...CLASSES, ...DIFFERENCES].find((each) => each.name === name);
  return el("span", { class: `status ${name}` }, shown(name === "allowed" ? encryptionText(edge.encryption) : title.toLowerCase(), 40));
}

function peers(title, edges, end) {
  const head = el("h3", {}, `${title} `, el("span", { class: "count" }, String(edges.length)));
  if (!edges.length) return [head, el("p", { class: "none" }, "nobody seen")];
  return [head, el("ul", { class: "peers" }, edges.map((edge) => el("li", {},
    el("button", { type: "button", class: "link", onclick: () => choose({ edge: edge.id, workload: "" }) },
      shown(edge[end].kind === "workload" ? `${edge[end].namespace}/${edge[end].name}` : edge[end].name, 48), " ", el("span", { class: "mono" }, portName(edge))),
    statusOf(edge))))];
}

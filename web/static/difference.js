// What is different between two times: every edge of either gets one word for it, and the map gets
// those back that are gone.

import { encryptionText, protectionText, verdictText } from "./edges.js";

export const DIFFERENCES = [
  { name: "new", title: "New", detail: "not seen at the earlier time" },
  { name: "gone", title: "Gone", detail: "seen at the earlier time only" },
  { name: "changed", title: "Changed", detail: "seen at both, but not alike" },
  { name: "same", title: "Same", detail: "as it was at the earlier time" },
];

const SAID = {
  encryption: (edge) => encryptionText(edge.encryption),
  versions: (edge) => edge.encryption.versions.join(", ") || "no version",
  verdict: (edge) => verdictText(edge.verdict),
  staged: (edge) => `staged: ${verdictText(edge.staged)}`,
  link: (edge) => (edge.link ? `link ${edge.link.status}` : "no link"),
  protection: (edge) => protectionText(edge) ?? "stays on its host",
  documented: (edge) => (edge.documented ? `documented by ${edge.documented}` : "undocumented"),
  applications: (edge) => edge.applications.join(", ") || "no application",
};

/** `plaintext → TLSv1.3`, for each field that differs; one that says the same is left out. */
function change({ before, after, what }) {
  const fields = what.filter((name) => SAID[name] && !(name === "versions" && what.includes("encryption")));
  const pairs = fields.map((name) => [SAID[name](before), SAID[name](after)]);
  const told = pairs.filter(([old, now]) => old !== now).map(([old, now]) => `${old} → ${now}`);
  return [...new Set(told)].join("; ");
}

const nodeOf = (peer) => ({
  id: peer.id, label: peer.name, kind: peer.kind, group: peer.namespace, host: peer.host, namespace: peer.namespace,
  known_as: peer.known_as, named_by: peer.named_by, members: 1, silent: false, badges: { alerts: 0 },
});

const lineOf = (edge) => ({
  id: edge.id, source: edge.source.id, target: edge.destination.id, label: edge.protocol, protocol: edge.protocol, port: edge.port,
  encryption: edge.encryption.status, verdict: edge.verdict ?? "unknown", documented: null, difference: "gone",
});

/** Edges and map of the later time, with what `/edges/compare` answered put into both. */
export function withDifference(edges, map, answer) {
  const kinds = new Map([
    ...answer.new.map((edge) => [edge.id, { difference: "new", change: "" }]),
    ...answer.changed.map((each) => [each.after.id, { difference: "changed", change: change(each) }]),
  ]);
  const same = { difference: "same", change: "" };
  const marked = edges.map((edge) => ({ ...edge, ...(kinds.get(edge.id) ?? same) }));
  const gone = answer.gone.map((edge) => ({ ...edge, difference: "gone", change: "" }));
  const lines = map.edges.map((line) => ({ ...line, difference: (kinds.get(line.id) ?? same).difference }));
  if (map.aggregated) return { edges: [...marked, ...gone], map: { ...map, edges: lines } };
  const nodes = new Map(map.nodes.map((node) => [node.id, node]));
  for (const edge of answer.gone) {
    for (const peer of [edge.source, edge.destination]) if (!nodes.has(peer.id)) nodes.set(peer.id, nodeOf(peer));
  }
  return { edges: [...marked, ...gone], map: { ...map, nodes: [...nodes.values()], edges: [...lines, ...answer.gone.map(lineOf)] } };
}

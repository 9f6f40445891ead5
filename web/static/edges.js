// What an edge means to the eye: one class each, the worst statement first.

export const CLASSES = [
  { name: "denied", title: "Denied", detail: "blocked by an enforced policy" },
  { name: "staged", title: "Would be denied", detail: "by a staged policy" },
  { name: "plaintext", title: "Plaintext", detail: "seen unencrypted" },
  { name: "allowed", title: "Allowed, encrypted", detail: "proven by its first bytes" },
  { name: "unknown", title: "Encryption unknown", detail: "allowed, not proven either way" },
];

export function classOf(edge) {
  if (edge.difference) return edge.difference; // two times are compared
  if (edge.verdict === "deny") return "denied";
  if (edge.staged === "deny") return "staged";
  if (edge.encryption.status === "plaintext") return "plaintext";
  if (edge.encryption.status === "encrypted") return "allowed";
  return "unknown";
}

/** The class of a drawn edge, which may stand for many and is judged by its worst member. */
export const drawnClass = (edge) =>
  classOf({
    difference: edge.difference,
    verdict: edge.verdict,
    staged: edge.verdict === "would-deny" ? "deny" : null,
    encryption: { status: edge.encryption },
  });

/** A destination that is a workload, whose port nobody wrote down. */
export const undocumented = (edge) =>
  edge.destination.kind === "workload" && edge.port !== null && !edge.documented &&
  edge.direction !== "guessed";

const VERDICTS = { allow: "allowed", deny: "denied" };
export const verdictText = (verdict) => VERDICTS[verdict] ?? "not judged";

/** Of an edge or a flow: `TLSv1.3` only where all is encrypted; else `unknown (TLSv1.3)`: some of it was that. */
export function encryptionText(encryption) {
  const versions = (encryption.versions ?? [encryption.version]).filter(Boolean).join(", ");
  if (encryption.status === "encrypted") return versions || "encrypted";
  return versions ? `${encryption.status} (${versions})` : encryption.status;
}

const PROTECTIONS = {
  tls: "protected by itself",
  link: "protected by the link",
  both: "protected by itself and by the link",
  neither: "protected by nothing",
  unknown: "not known what protects it",
};

/** What protects an edge on the wire, or null: it stays within a host. `WireGuard, proven`. */
export function protectionText(edge) {
  if (!edge.protection) return null;
  const link = edge.link?.kind ? ` (${edge.link.kind}, ${edge.link.status})` : "";
  return `${PROTECTIONS[edge.protection]}${link}`;
}

function wordsOf(edge) {
  return [
    edge.source.name, edge.source.namespace, edge.source.host, edge.source.kind,
    edge.destination.name, edge.destination.namespace, edge.destination.host,
    edge.destination.kind, edge.source.known_as, edge.destination.known_as, edge.protocol, edge.port, `${edge.protocol}/${edge.port}`,
    ...edge.applications, ...edge.encryption.versions, edge.encryption.status,
    edge.difference, edge.change,
    undocumented(edge) ? "undocumented" : "", edge.crosses_hosts ? "cross-host" : "",
  ].map((word) => String(word ?? "").toLowerCase());
}

/** Whether an edge answers a search: every term matches; `is:plaintext`, `from:x`, `to:x` too. */
export function matches(edge, search) {
  const terms = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (!terms.length) return true;
  const words = wordsOf(edge);
  return terms.every((term) => {
    if (term.startsWith("is:")) return classOf(edge) === term.slice(3) || words.includes(term.slice(3));
    if (term.startsWith("from:")) return edge.source.id.toLowerCase().includes(term.slice(5));
    if (term.startsWith("to:")) return edge.destination.id.toLowerCase().includes(term.slice(3));
    return words.some((word) => word.includes(term));
  });
}

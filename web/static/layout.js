// Where nodes go. A force layout gives the rough picture; a map small enough to be read as a whole
// is then untangled, so that it looks drawn by hand.

import { untangle } from "./untangle.js";

const DRAFT_ABOVE = 200; // nodes; a careful force layout of more takes seconds (measured)
const STARTS = 3; // the force layout starts from chance; the clearest of these is kept
const UNTANGLE_UP_TO = 80; // nodes; above, the search costs more than it clears

function options(many) {
  return {
    name: "fcose",
    quality: many ? "draft" : "proof",
    randomize: true,
    animate: false,
    fit: false,
    packComponents: true,
    nodeSeparation: 90,
    idealEdgeLength: (edge) => (edge.source().parent().same(edge.target().parent()) ? 84 : 104),
    nodeRepulsion: 5600,
    edgeElasticity: 0.42,
    gravity: 0.4,
    gravityCompound: 1.2,
    gravityRangeCompound: 1.6,
    nestingFactor: 0.25,
    numIter: 2500,
  };
}

/** Lay out all nodes of `cy`; synchronous. */
export function layOutAll(cy) {
  const peers = cy.nodes(".peer");
  const starts = peers.length > UNTANGLE_UP_TO ? 1 : STARTS;
  let best = null;
  for (let start = 0; start < starts; start += 1) {
    cy.layout(options(peers.length > DRAFT_ABOVE)).run();
    if (peers.length > UNTANGLE_UP_TO) return;
    const found = untangled(cy, peers);
    if (!best || found.cost < best.cost) best = found;
  }
  cy.batch(() => peers.forEach((node, index) => node.position(best.spots[index])));
}

function untangled(cy, peers) {
  const nodes = peers.map((node) => ({
    id: node.id(), ...node.position(), width: node.width(), height: node.height(),
    boxes: node.ancestors().map((box) => box.id()),
  }));
  const order = new Map(nodes.map((node, index) => [node.id, index]));
  const pairs = new Map();
  cy.edges().forEach((edge) => {
    const ends = [order.get(edge.source().id()), order.get(edge.target().id())];
    if (ends[0] !== ends[1]) pairs.set([...ends].sort((a, b) => a - b).join(), ends);
  });
  return untangle(nodes, [...pairs.values()], { aspect: cy.width() / Math.max(1, cy.height() - 60) });
}

// Simulated annealing over node positions: what a person would tidy up, as a sum of costs.
// Pure: numbers in, numbers out, and the same numbers each time.

const PADDING = 26; // of a box around its nodes, for each level of nesting
const TITLE = 14; // room above the nodes for the box's name
const WORK = 6e6; // pairs looked at; about a third of a second

/** A small seeded generator (mulberry32, public domain): chance that repeats. */
function chance(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/**
 * Better positions for `nodes` ({x, y, width, height, boxes}: ids of the boxes around it, innermost
 * first) joined by `pairs` of indexes, in a view of `aspect` (width by height). Returns their price and
 * [{x, y}].
 */
export function untangle(nodes, pairs, { aspect }) {
  const random = chance(7);
  const boxes = groupsOf(nodes);
  const spots = nodes.map(({ x, y }) => ({ x, y }));
  const price = () => cost({ nodes, pairs, boxes, spots, aspect });
  const rounds = Math.min(12000, Math.round(WORK / (pairs.length ** 2 + pairs.length * nodes.length + nodes.length ** 2 + 1)));
  let now = price();
  let best = { cost: now, spots: spots.map((spot) => ({ ...spot })) };
  for (let round = 0; round < rounds; round += 1) {
    const heat = 1 - round / rounds;
    const undo = move({ nodes, boxes, spots, random, reach: 12 + 170 * heat });
    const next = price();
    if (next < now || random() < Math.exp((now - next) / (0.05 + 5 * heat * heat))) {
      now = next;
      if (now < best.cost) best = { cost: now, spots: spots.map((spot) => ({ ...spot })) };
    } else {
      undo();
    }
  }
  return best;
}

function groupsOf(nodes) {
  const groups = new Map();
  nodes.forEach((node, index) => node.boxes.forEach((id, level) => {
    if (!groups.has(id)) groups.set(id, { id, level, members: [] });
    groups.get(id).members.push(index);
    groups.get(id).level = Math.max(groups.get(id).level, level);
  }));
  return [...groups.values()];
}

/** One random change; returns what undoes it. */
function move({ nodes, boxes, spots, random, reach }) {
  const index = Math.floor(random() * nodes.length);
  const kind = random();
  if (kind < 0.15) {
    const mates = nodes.map((_, i) => i).filter((i) => i !== index && nodes[i].boxes[0] === nodes[index].boxes[0]);
    if (mates.length) {
      const other = mates[Math.floor(random() * mates.length)];
      const swap = () => ([spots[index], spots[other]] = [spots[other], spots[index]]);
      swap();
      return swap;
    }
  }
  const members = kind < 0.4 && boxes.length ? boxes[Math.floor(random() * boxes.length)].members : [index];
  const before = members.map((i) => spots[i]);
  const [dx, dy] = [(random() - 0.5) * 2 * reach, (random() - 0.5) * 2 * reach];
  for (const i of members) spots[i] = { x: spots[i].x + dx, y: spots[i].y + dy };
  return () => members.forEach((i, at) => { spots[i] = before[at]; });
}

// ---- what is ugly, and how much ----

function cost({ nodes, pairs, boxes, spots, aspect }) {
  const lines = pairs.map(([a, b]) => ({ a, b, from: spots[a], to: spots[b], x: (spots[a].x + spots[b].x) / 2, y: (spots[a].y + spots[b].y) / 2 }));
  const rectangles = boxes.map((box) => around(box, nodes, spots));
  return ofLines(lines) + ofLinesAndNodes(lines, nodes, spots) + ofNodes(nodes, spots) + ofBoxes(boxes, rectangles, spots, nodes) + ofSpace(nodes, spots, rectangles, aspect);
}

function ofLines(lines) {
  let sum = 0;
  for (let i = 0; i < lines.length; i += 1) {
    const one = lines[i];
    sum += Math.hypot(one.from.x - one.to.x, one.from.y - one.to.y) / 110;
    for (let j = i + 1; j < lines.length; j += 1) {
      const two = lines[j];
      if (one.a === two.a || one.a === two.b || one.b === two.a || one.b === two.b) sum += squeezed(one, two);
      else if (crosses(one, two)) sum += 2.2;
      if (Math.abs(one.x - two.x) < 52 && Math.abs(one.y - two.y) < 17) sum += 3;
    }
  }
  return sum;
}

/** Two lines from one node at so small an angle that they lie over each other. */
function squeezed(one, two) {
  const shared = one.a === two.a || one.a === two.b ? one.from : one.to;
  const [far1, far2] = [shared === one.from ? one.to : one.from, shared === two.from ? two.to : two.from];
  const turn = Math.atan2(far1.y - shared.y, far1.x - shared.x) - Math.atan2(far2.y - shared.y, far2.x - shared.x);
  const angle = Math.abs(((turn + 3 * Math.PI) % (2 * Math.PI)) - Math.PI);
  return angle < 0.26 ? 4 * (1 - angle / 0.26) : 0;
}

function ofLinesAndNodes(lines, nodes, spots) {
  let sum = 0;
  for (const line of lines) {
    for (let i = 0; i < nodes.length; i += 1) {
      const reach = nodes[i].width / 2;
      if (Math.abs(line.x - spots[i].x) < reach + 34 && Math.abs(line.y - spots[i].y) < 27) sum += 4;
      if (i !== line.a && i !== line.b && passes(spots[i], reach + 6, 22, line)) sum += 6;
    }
  }
  return sum;
}

/** Whether a line enters the box of half width `w` and half height `h` around `p` (slab method). */
function passes(p, w, h, { from, to }) {
  let [enter, leave] = [0, 1];
  for (const [start, delta, low, high] of [[from.x, to.x - from.x, p.x - w, p.x + w], [from.y, to.y - from.y, p.y - h, p.y + h]]) {
    if (delta === 0) {
      if (start < low || start > high) return false;
    } else {
      const [t1, t2] = [(low - start) / delta, (high - start) / delta];
      enter = Math.max(enter, Math.min(t1, t2));
      leave = Math.min(leave, Math.max(t1, t2));
    }
  }
  return enter <= leave;
}

function ofNodes(nodes, spots) {
  let sum = 0;
  for (let i = 0; i < nodes.length; i += 1) {
    for (let j = i + 1; j < nodes.length; j += 1) {
      const wide = (nodes[i].width + nodes[j].width) / 2 + 26 - Math.abs(spots[i].x - spots[j].x);
      const high = 66 - Math.abs(spots[i].y - spots[j].y);
      if (wide > 0 && high > 0) sum += 5 + Math.min(wide, high) / 3;
    }
  }
  return sum;
}

function around(box, nodes, spots) {
  const pad = PADDING * (box.level + 1);
  const rectangle = { x1: Infinity, y1: Infinity, x2: -Infinity, y2: -Infinity };
  for (const i of box.members) {
    rectangle.x1 = Math.min(rectangle.x1, spots[i].x - nodes[i].width / 2 - pad);
    rectangle.x2 = Math.max(rectangle.x2, spots[i].x + nodes[i].width / 2 + pad);
    rectangle.y1 = Math.min(rectangle.y1, spots[i].y - 15 - pad - TITLE);
    rectangle.y2 = Math.max(rectangle.y2, spots[i].y + 15 + pad);
  }
  return rectangle;
}

function ofBoxes(boxes, rectangles, spots, nodes) {
  let sum = 0;
  boxes.forEach((box, i) => {
    const r = rectangles[i];
    for (let j = i + 1; j < boxes.length; j += 1) {
      if (!box.members.some((member) => boxes[j].members.includes(member))) sum += overlap(r, rectangles[j]);
    }
    nodes.forEach((node, index) => {
      if (node.boxes.includes(box.id)) return;
      const spot = spots[index];
      sum += overlap(r, { x1: spot.x - node.width / 2 - 10, x2: spot.x + node.width / 2 + 10, y1: spot.y - 24, y2: spot.y + 24 });
    });
  });
  return sum;
}

function overlap(one, two) {
  const wide = Math.min(one.x2, two.x2) - Math.max(one.x1, two.x1) + 8;
  const high = Math.min(one.y2, two.y2) - Math.max(one.y1, two.y1) + 8;
  return wide > 0 && high > 0 ? 12 + Math.min(wide, high) / 2 : 0;
}

function ofSpace(nodes, spots, rectangles, aspect) {
  const all = { x1: Infinity, y1: Infinity, x2: -Infinity, y2: -Infinity };
  const cover = (r) => Object.assign(all, { x1: Math.min(all.x1, r.x1), y1: Math.min(all.y1, r.y1), x2: Math.max(all.x2, r.x2), y2: Math.max(all.y2, r.y2) });
  rectangles.forEach(cover);
  spots.forEach((spot, i) => cover({ x1: spot.x - nodes[i].width / 2, x2: spot.x + nodes[i].width / 2, y1: spot.y - 15, y2: spot.y + 15 }));
  return Math.max((all.x2 - all.x1) / aspect, all.y2 - all.y1) / 11;
}

const side = (a, b, p) => Math.sign((b.x - a.x) * (p.y - a.y) - (b.y - a.y) * (p.x - a.x));

function crosses(one, two) {
  return side(one.from, one.to, two.from) !== side(one.from, one.to, two.to)
    && side(two.from, two.to, one.from) !== side(two.from, two.to, one.to);
}

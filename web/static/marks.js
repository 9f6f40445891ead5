// Small signs over the map that an edge's style can not carry: an open lock on plaintext, an
// exclamation mark on an undocumented port, the number of alerts on a workload.

const LOCK = new Path2D("M1 6h8v5.5H1zM2.5 6V4a2.5 2.5 0 0 1 4.8-.9l-1.1.5A1.3 1.3 0 0 0 3.7 4v2z");
const NEAREST = 0.45; // below this zoom signs would be blots

function disc(context, { x, y, radius, fill, ring }) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = fill;
  context.fill();
  context.lineWidth = 1.5;
  context.strokeStyle = ring;
  context.stroke();
}

function letter(context, text, { x, y, size, fill }) {
  context.font = `700 ${size}px sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = fill;
  context.fillText(text, x, y + size * 0.06);
}

function lock(context, { x, y, zoom, colours }) {
  const radius = 8.5 * zoom;
  disc(context, { x, y, radius, fill: colours.plaintext, ring: colours.canvas });
  context.save();
  context.translate(x - 4.6 * zoom, y - 6.2 * zoom);
  context.scale(zoom * 0.92, zoom * 0.92);
  context.fillStyle = colours.canvas;
  context.fill(LOCK);
  context.restore();
}

function edgeMarks(context, edge, { zoom, colours }) {
  const middle = edge.renderedMidpoint();
  if (!middle || !Number.isFinite(middle.x)) return;
  context.globalAlpha = edge.hasClass("dim") ? 0.15 : 1;
  const half = (String(edge.data("label")).length * 3.2 + 13) * zoom;
  if (edge.data("open")) lock(context, { x: middle.x - half, y: middle.y, zoom, colours });
  if (edge.data("undocumented")) {
    const at = { x: middle.x + half, y: middle.y };
    disc(context, { ...at, radius: 7 * zoom, fill: colours.staged, ring: colours.canvas });
    letter(context, "!", { ...at, size: 10.5 * zoom, fill: colours.canvas });
  }
}

function nodeMarks(context, node, { zoom, colours }) {
  const alerts = node.data("alerts");
  if (!alerts) return;
  context.globalAlpha = node.hasClass("dim") ? 0.15 : 1;
  const box = node.renderedBoundingBox({ includeLabels: false, includeOverlays: false });
  const at = { x: box.x2 - 3 * zoom, y: box.y1 + 3 * zoom };
  disc(context, { ...at, radius: 8 * zoom, fill: colours.denied, ring: colours.canvas });
  letter(context, alerts > 9 ? "9+" : String(alerts), { ...at, size: 10 * zoom, fill: colours.canvas });
}

/** Draw all signs of the present view on `canvas`, which lies over the map. */
export function drawMarks(canvas, cy, colours) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [cy.width(), cy.height()];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const zoom = cy.zoom();
  if (zoom < NEAREST) return;
  cy.edges("[?open], [?undocumented]").forEach((edge) => edgeMarks(context, edge, { zoom, colours }));
  cy.nodes(".peer").forEach((node) => nodeMarks(context, node, { zoom, colours }));
  context.globalAlpha = 1;
}

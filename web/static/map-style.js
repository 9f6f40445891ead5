// The map's stylesheet. Colours are the page's custom properties, so light and dark agree.

const NAMES = [
  "surface", "canvas", "ink", "muted", "line", "accent", "box", "box-inner", "allowed", "denied",
  "staged", "plaintext", "unknown",
];

// Of what differs between two times.
const COLOURS = { new: "allowed", gone: "denied", changed: "staged", same: "unknown" };

export function palette() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

const FONT = 'Inter, "Segoe UI", "Helvetica Neue", "DejaVu Sans", Arial, sans-serif';

export function mapStyle() {
  const p = palette();
  const line = (name, width, style) => {
    const colour = p[COLOURS[name] ?? name];
    return { selector: `edge.${name}`, style: { "line-color": colour, "target-arrow-color": colour, color: colour, width, "line-style": style } };
  };
  return [
    {
      selector: "node.peer",
      style: {
        shape: "round-rectangle", width: "data(width)", height: 30, label: "data(label)",
        "background-color": p.surface, "border-width": 1.5, "border-color": p.muted,
        color: p.ink, "font-family": FONT, "font-size": 12.5, "font-weight": 600,
        "text-valign": "center", "text-halign": "center", "min-zoomed-font-size": 5,
      },
    },
    { selector: "node.external", style: { shape: "round-rectangle", "border-style": "dashed", "background-color": p.canvas, "font-weight": 500, "corner-radius": 15 } },
    { selector: "node.host", style: { shape: "cut-rectangle", "background-color": p.canvas, "font-weight": 500 } },
    { selector: "node.silent", style: { opacity: 0.55, "border-style": "dotted" } },
    { selector: "node.alerted", style: { "border-color": p.denied, "border-width": 2 } },
    {
      selector: "node.box",
      style: {
        shape: "round-rectangle", "corner-radius": 10, "background-color": p.box, "background-opacity": 1,
        "border-width": 1, "border-color": p.line, padding: 20, label: "data(label)", color: p.muted,
        "font-family": FONT, "font-size": 11, "font-weight": 600, "text-valign": "top", "text-halign": "center",
        "text-margin-y": 15, "text-transform": "none", events: "no",
      },
    },
    { selector: "node.box.project", style: { "background-color": p["box-inner"], "border-style": "solid" } },
    { selector: "node.box.host:compound", style: { padding: 26 } },
    {
      selector: "edge",
      style: {
        width: 1.8, "curve-style": "bezier", "control-point-step-size": 34, "target-arrow-shape": "triangle",
        "arrow-scale": 0.95, label: "data(label)", "font-family": FONT, "font-size": 10.5, "font-weight": 600,
        "text-background-color": p.canvas, "text-background-opacity": 0.92, "text-background-padding": 2,
        "text-background-shape": "round-rectangle", "min-zoomed-font-size": 6, "loop-sweep": "50deg",
        "line-cap": "butt",
      },
    },
    line("allowed", 1.8, "solid"),
    line("unknown", 1.6, "solid"),
    line("plaintext", 2.2, "dotted"),
    { ...line("staged", 2.2, "dashed") },
    line("denied", 3.6, "solid"),
    line("new", 3.2, "solid"),
    line("gone", 2.4, "dashed"),
    line("changed", 3.2, "dotted"),
    line("same", 1.3, "solid"),
    { selector: "edge.same", style: { opacity: 0.5 } },
    { selector: "edge.gone", style: { "line-dash-pattern": [4, 5], "target-arrow-shape": "tee" } },
    { selector: "edge.denied", style: { "target-arrow-shape": "tee", "arrow-scale": 1.1 } },
    { selector: "edge.staged", style: { "line-dash-pattern": [9, 5] } },
    { selector: ".dim", style: { opacity: 0.2 } },
    { selector: "node.hover", style: { "border-color": p.accent, "border-width": 2 } },
    { selector: "edge.hover", style: { "underlay-color": p.accent, "underlay-opacity": 0.14, "underlay-padding": 4 } },
    { selector: "edge.chosen", style: { "underlay-color": p.accent, "underlay-opacity": 0.22, "underlay-padding": 5, "z-index": 10 } },
    { selector: "node.chosen", style: { "border-color": p.accent, "border-width": 3 } },
    { selector: "node.near", style: { "border-color": p.accent } },
    { selector: ":active", style: { "overlay-opacity": 0 } },
  ];
}

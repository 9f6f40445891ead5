// Figures and times as people read them.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function bytes(count) {
  let size = Number(count) || 0;
  let unit = 0;
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit && size < 100 ? size.toFixed(1) : Math.round(size)} ${UNITS[unit]}`;
}

export const count = (number) => (Number(number) || 0).toLocaleString("en-US");

/** How long ago an RFC 3339 time was: `now`, `42 s`, `5 min`, `3 h`, `2 d`. */
export function ago(time) {
  if (!time) return "never";
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  if (seconds < 5) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} d ago`;
}

/** `14:03:22` of today, else with its date; local time, the exact one is in the tooltip. */
export function clock(time) {
  if (!time) return "–";
  const moment = new Date(time);
  const day = moment.toDateString() === new Date().toDateString();
  const at = moment.toLocaleTimeString("en-GB");
  return day ? at : `${moment.toISOString().slice(0, 10)} ${at}`;
}

/** `22 Nov, 14:05`, with the year where it is another one; local time. */
export function moment(time) {
  const date = new Date(time);
  const year = date.getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" };
  const day = date.toLocaleDateString("en-GB", { day: "numeric", month: "short", ...year });
  return `${day}, ${date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })}`;
}

export const portName = (edge) => (edge.port === null ? edge.protocol : String(edge.port));

// Everything that speaks to the controller. A session that ended leads to the login page.

export class ApiError extends Error {
  constructor(error) {
    super(error.message);
    this.hint = error.hint;
  }
}

/** Why the controller keeps nothing new, as its last answer said; null if it does. */
export let readOnly = null;

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new ApiError({ message: "The controller does not answer.", hint: "Is it running?" });
  }
  readOnly = response.headers.get("Netwatch-Read-Only");
  if (response.status === 401) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    throw new ApiError({ message: "The session has ended.", hint: "Log in again." });
  }
  const answer = await response.json().catch(() => null);
  if (!answer || !answer.ok) {
    throw new ApiError(answer?.error ?? { message: `The controller answered ${response.status}.` });
  }
  return answer;
}

// A refresh that no person asked for must not keep an unattended session from ending.
const background = { headers: { "X-Netwatch": "live" } };

/** GET of `/api/v1/NAME` with parameters; null and empty ones are left out. */
export function get(name, parameters = {}, { byHand = false } = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(key, value);
  }
  const text = query.toString();
  return call(`/api/v1/${name}${text ? `?${text}` : ""}`, byHand ? {} : background);
}

/** POST of a JSON body; the header proves that this page sent it. */
export function post(path, body = {}) {
  return call(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Netwatch": "1" },
    body: JSON.stringify(body),
  });
}

const SILENCE = 45_000; // the server says `alive` every 15 s

/**
 * Follow the controller's changes. `onchange(number)` on each, `onlive(bool)` when the stream
 * comes or goes. The browser reconnects by itself after a broken connection, not after a refusal:
 * that is done here, slower each time.
 */
export function follow({ onchange, onlive }) {
  let source;
  let watchdog;
  let wait = 1000;
  let reconnecting;

  function heard() {
    onlive(true);
    wait = 1000;
    clearTimeout(watchdog);
    watchdog = setTimeout(() => restart(), SILENCE);
  }
  function restart() {
    onlive(false);
    source.close();
    clearTimeout(watchdog);
    clearTimeout(reconnecting);
    reconnecting = setTimeout(open, wait);
    wait = Math.min(wait * 2, 30_000);
  }
  function open() {
    source = new EventSource("/events");
    source.addEventListener("open", heard);
    source.addEventListener("alive", heard);
    source.addEventListener("change", (event) => {
      heard();
      onchange(event.data);
    });
    source.addEventListener("error", () => {
      onlive(false);
      if (source.readyState === EventSource.CLOSED) {
        get("hosts").catch(() => {}); // a session that ended leads to the login page
        restart();
      }
    });
  }
  open();
}

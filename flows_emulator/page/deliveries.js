// Deliveries, as they come; each with all that was sent and answered.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-standalone.js";
import { ask } from "./api.js";
import { Body, size, time, visible } from "./text.js";

const STATES = { "": "All", pending: "Pending", delivered: "Delivered", failed: "Failed" };
const MORE = 200;

export function Deliveries({ known, query, say, refresh }) {
  const [state, setState] = useState("");
  const [older, setOlder] = useState([]);
  const [end, setEnd] = useState(false);
  const [found, setFound] = useState([]);
  const chosen = Number(query.get("delivery")) || null;

  // What the newest ones don't show, the emulator is asked for.
  useEffect(() => {
    setOlder([]);
    setEnd(false);
    if (state) ask("GET", `api/deliveries?state=${state}`).then(({ deliveries }) => setFound(deliveries), () => {});
  }, [state, known.counts.failed, known.counts.pending === 0]);

  const newest = state ? unite(known.deliveries, found).filter((delivery) => delivery.state === state) : known.deliveries;
  const rows = unite(newest, older);
  const total = state ? known.counts[state] : Object.values(known.counts).reduce((a, b) => a + b, 0);

  async function more() {
    try {
      const { deliveries } = await ask("GET", `api/deliveries?limit=${MORE}&before=${rows[rows.length - 1].id}&state=${state}`);
      setOlder([...older, ...deliveries]);
      setEnd(deliveries.length < MORE);
    } catch (error) {
      say(error.message, true);
    }
  }
  const clear = () => ask("DELETE", "api/deliveries").then(() => (setOlder([]), refresh()), (error) => say(error.message, true));

  return html`
    <div class="row">
      <div class="chips" role="group" aria-label="Which deliveries">
        ${Object.entries(STATES).map(
          ([name, title]) => html`<button type="button" key=${name} aria-pressed=${state === name} onClick=${() => setState(name)}>
            ${title} ${name && html`<small>${known.counts[name]}</small>`}
          </button>`,
        )}
      </div>
      <button type="button" class="plain end" onClick=${clear} disabled=${!total}>Clear finished</button>
    </div>
    ${rows.length
      ? html`<div class=${`split ${chosen ? "open" : ""}`}>
          <div class="card flush">
            <${List} rows=${rows} chosen=${chosen} />
            ${!end && rows.length < total && html`<button type="button" class="plain wide" onClick=${more}>Show older ones</button>`}
          </div>
          ${chosen && html`<${Detail} key=${chosen} id=${chosen} known=${known} say=${say} />`}
        </div>`
      : html`<div class="empty">
          <h2>${state ? `Nothing ${STATES[state].toLowerCase()}` : "Nothing sent yet"}</h2>
          <p>${state ? "Other deliveries are under All." : html`<a href="#/send">Send an event</a>, or let the organization live.`}</p>
        </div>`}
  `;
}

function unite(first, second) {
  const seen = new Map([...second, ...first].map((delivery) => [delivery.id, delivery]));
  return [...seen.values()].sort((a, b) => b.id - a.id);
}

function List({ rows, chosen }) {
  const table = useRef(null);
  const move = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const links = [...table.current.querySelectorAll("a")];
    const next = links[links.indexOf(document.activeElement) + step];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  };
  return html`
    <table class="list" ref=${table} onKeyDown=${move}>
      <thead>
        <tr>
          <th scope="col">Time</th>
          <th scope="col">Event</th>
          <th scope="col" class="wide-only">Entity</th>
          <th scope="col">Status</th>
          <th scope="col" class="number roomy-only">ms</th>
          <th scope="col" class="number">Attempts</th>
        </tr>
      </thead>
      <tbody>
        ${rows.map((delivery) => html`<${Row} key=${delivery.id} delivery=${delivery} chosen=${delivery.id === chosen} />`)}
      </tbody>
    </table>
  `;
}

function Row({ delivery, chosen }) {
  const to = `#/deliveries?delivery=${delivery.id}`;
  return html`
    <tr class=${chosen ? "chosen" : ""} onClick=${() => (location.hash = to)}>
      <td class="number">${time(delivery.created)}</td>
      <td>
        <a href=${to} aria-current=${chosen ? "true" : undefined}><bdi>${visible(delivery.type || "no event")}</bdi></a>
        ${delivery.manner && html` <small class="pill">${delivery.manner}</small>`}
      </td>
      <td class="wide-only cut"><bdi>${visible(delivery.entity)}</bdi></td>
      <td><${Status} delivery=${delivery} /></td>
      <td class="number roomy-only">${delivery.attempts ? delivery.milliseconds.toFixed(1) : ""}</td>
      <td class="number">${delivery.attempts}</td>
    </tr>
  `;
}

function Status({ delivery }) {
  const { state, status, attempts } = delivery;
  const text = status || (attempts ? "no answer" : "–");
  const word = state === "pending" ? (attempts ? "will be retried" : "under way") : state;
  return html`<span class=${`pill ${state}`} title=${word}>${text}<span class="unseen">, ${word}</span></span>`;
}

function Detail({ id, known, say }) {
  const [delivery, setDelivery] = useState(null);
  const [missing, setMissing] = useState("");
  const heading = useRef(null);
  const summary = known.deliveries.find((item) => item.id === id);
  useEffect(() => {
    ask("GET", `api/deliveries/${id}`).then(setDelivery, (error) => setMissing(error.message));
  }, [id, summary?.attempts, summary?.state]);
  useEffect(() => heading.current?.focus(), [delivery !== null]);

  if (missing) return html`<section class="card"><p class="quiet">${missing}</p></section>`;
  if (!delivery) return html`<section class="card"><p class="quiet busy">Loading</p></section>`;
  const again = () =>
    ask("POST", `api/deliveries/${id}/again`, {}).then(
      ({ deliveries }) => (location.hash = `#/deliveries?delivery=${deliveries[0]}`),
      (error) => say(error.message, true),
    );
  const pending = delivery.state === "pending";
  return html`
    <section class="card detail" aria-labelledby="detail-title">
      <div class="row">
        <h2 id="detail-title" ref=${heading} tabindex="-1">#${id} <bdi>${visible(delivery.type || "no event")}</bdi></h2>
        <a class="end" href="#/deliveries" aria-label="Close">Close</a>
      </div>
      <p class="row tight">
        <${Status} delivery=${delivery} />
        ${pending && delivery.attempts > 0 && html`<span class="quiet">next attempt at ${time(delivery.due)}</span>`}
        ${delivery.error && html`<span class="quiet">${visible(delivery.error)}</span>`}
      </p>
      <p class="quiet cut"><bdi>${visible(delivery.entity)}</bdi></p>
      <div class="row">
        <button type="button" class="primary" onClick=${again}>${pending ? "Try now" : "Send again"}</button>
        <a class="button" href=${`#/send?delivery=${id}`}>Edit and send</a>
      </div>
      <h3>Request body <span class="quiet">${size(delivery.size)}</span></h3>
      <${Body} text=${delivery.body} label="Request body" />
      ${[...delivery.attempted].reverse().map((attempt, index) => html`
        <${Attempt} key=${attempt.at} attempt=${attempt} number=${delivery.attempted.length - index} open=${index === 0} />
      `)}
      ${!delivery.attempted.length && html`<p class="quiet busy">Under way</p>`}
    </section>
  `;
}

function Attempt({ attempt, number, open }) {
  const answer = attempt.status || "no answer";
  return html`
    <details open=${open}>
      <summary>Attempt ${number}: ${answer} <span class="quiet">${time(attempt.at)}, ${attempt.milliseconds.toFixed(1)} ms</span></summary>
      ${attempt.error && html`<p class="note">${visible(attempt.error)}</p>`}
      ${attempt.url && html`<h4>Request</h4><p class="code line">POST <bdi>${visible(attempt.url)}</bdi></p>`}
      <${Headers} pairs=${attempt.request_headers} />
      ${attempt.status > 0 &&
      html`<h4>Response</h4>
        <p class="code line">${attempt.status}</p>
        <${Headers} pairs=${attempt.response_headers} />
        <${Body} text=${attempt.response_body} label=${`Response body of attempt ${number}`} />`}
    </details>
  `;
}

function Headers({ pairs }) {
  if (!pairs.length) return null;
  return html`<dl class="headers">
    ${pairs.map(([name, value], index) => html`<div key=${index}><dt>${visible(name)}</dt><dd><bdi>${visible(value)}</bdi></dd></div>`)}
  </dl>`;
}

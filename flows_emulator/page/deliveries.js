// Deliveries, as they come; each with all that was sent and answered. What is looked at stands in the address.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/htm-preact-standalone.js";
import { ask } from "./api.js";
import { Confirm } from "./dialog.js";
import { Diff } from "./diff.js";
import { useKeys } from "./keys.js";
import { List, Status } from "./list.js";
import { changedDeliveries, live, unite } from "./live.js";
import { Strip } from "./strip.js";
import { Body, Middle, Name, size, time, visible } from "./text.js";

const STATES = { "": "All", pending: "Pending", delivered: "Delivered", failed: "Failed" };
const STATUSES = { "": "any answer", "2xx": "2xx", "4xx": "4xx", "5xx": "5xx", none: "no answer" };
const FILTERS = ["state", "type", "entity", "status"];
const FIRST = 200;
const MORE = 1000;
// The emulator forgets what is finished beyond ten thousand, and so does the page.
const MOST = 12_000;
const PAUSE = 200;

// As the API selects; what is empty selects all.
function selects(filter, { state, type, entity, attempts, status }) {
  const halves = type.split(".");
  const wanted = filter.type.split(".");
  const fits = halves.length === wanted.length && wanted.every((half, index) => half === "*" || half === halves[index]);
  const answers = { none: [0, 0] }[filter.status] ?? ["00", "99"].map((end) => Number(filter.status.replace("xx", end)));
  return (
    (!filter.state || state === filter.state) &&
    (["", "*"].includes(filter.type) || fits) &&
    entity.toLowerCase().includes(filter.entity.toLowerCase()) &&
    (!filter.status || (attempts > 0 && answers[0] <= status && status <= answers[1]))
  );
}

function absorb(filter, view, changes) {
  const known = new Set(view.rows.map(({ id }) => id));
  const oldest = view.rows.length < view.total ? (view.rows[view.rows.length - 1]?.id ?? 0) : 0;
  const changed = changedDeliveries(changes);
  if (!changed.length) return view;
  const wanted = changed.filter((delivery) => selects(filter, delivery) && (delivery.id > oldest || known.has(delivery.id)));
  const gone = new Set(changed.filter((delivery) => !selects(filter, delivery) && known.has(delivery.id)).map(({ id }) => id));
  const added = wanted.filter(({ id }) => !known.has(id)).length;
  const rows = unite(view.rows.filter(({ id }) => !gone.has(id)), wanted);
  return { rows: rows.slice(0, MOST), total: view.total + added - gone.size };
}

// The deliveries that a filter selects, the newest first, and `more()` for those that are not there yet.
function useDeliveries(filter, listen, say) {
  const query = new URLSearchParams(FILTERS.map((name) => [name, filter[name]])).toString();
  const [view, setView] = useState(null);
  const source = useRef(null);
  const busy = useRef(false);
  useEffect(() => {
    busy.current = false;
    let current = true;
    const fetchRows = async () => {
      const { deliveries, total } = await ask("GET", `api/deliveries?limit=${FIRST}&${query}`);
      return { rows: deliveries, total };
    };
    source.current = live(fetchRows, (before, changes) => absorb(filter, before, changes), (next) => current && setView(next));
    const load = () => source.current.reload().catch((error) => current && say(error.message, true));
    load();
    const stop = listen((changes) => ("cleared" in changes || changes.missed ? load() : source.current.change(changes)));
    return () => ((current = false), stop());
  }, [query]);

  async function more() {
    if (busy.current || !view || view.rows.length >= Math.min(view.total, MOST)) return;
    const asked = source.current;
    busy.current = true;
    try {
      const before = view.rows[view.rows.length - 1].id;
      const { deliveries } = await ask("GET", `api/deliveries?limit=${MORE}&before=${before}&${query}`);
      asked.update((known) => {
        const { rows, total } = known;
        // What is older than other rows than those that were asked about would leave a gap.
        if (rows[rows.length - 1]?.id !== before) return known;
        const united = unite(rows, deliveries);
        return { rows: united, total: deliveries.length < MORE ? united.length : Math.max(total, united.length) };
      });
    } catch (error) {
      say(error.message, true);
    } finally {
      if (asked === source.current) busy.current = false;
    }
  }
  return { view, more };
}

export function Deliveries({ known, query, say, listen }) {
  const filter = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  const chosen = Number(query.get("delivery")) || null;
  const { view, more } = useDeliveries(filter, listen, say);
  const [cursor, setCursor] = useState(null);
  const [asks, setAsks] = useState(false);
  const search = useRef(null);
  const rows = view?.rows ?? [];
  const filtered = FILTERS.some((name) => filter[name]);

  // The address of this view with something changed; null takes a part away.
  const address = (part) => {
    const wanted = new URLSearchParams(Object.entries({ ...filter, delivery: chosen, ...part }).filter(([, value]) => value));
    return `#/deliveries${wanted.size ? `?${wanted}` : ""}`;
  };
  const choose = (part) => location.replace(address({ ...part, delivery: null }));
  const close = () => {
    if (!chosen) return;
    location.hash = address({ delivery: null });
    setCursor({ id: chosen });
  };
  // The delivery that was last looked at or moved to.
  const at = useRef(null);
  useEffect(() => void (at.current = chosen ?? at.current), [chosen]);
  const move = (step) => {
    const id = Number(document.activeElement?.dataset?.id) || at.current;
    const index = rows.findIndex((delivery) => delivery.id === id);
    const next = rows[index < 0 ? 0 : index + step];
    if (!next) return;
    at.current = next.id;
    setCursor({ id: next.id });
  };
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    "/": () => search.current.focus(),
    Escape: () => (document.activeElement === search.current ? search.current.blur() : close()),
  });
  const clear = (yes) => {
    setAsks(false);
    if (yes) ask("DELETE", "api/deliveries").catch((error) => say(error.message, true));
  };

  const finished = known.counts.delivered + known.counts.failed;
  return html`
    <div class="row">
      <div class="chips" role="group" aria-label="Which deliveries">
        ${Object.entries(STATES).map(
          ([name, title]) => html`<button type="button" key=${name} aria-pressed=${filter.state === name} onClick=${() => choose({ state: name })}>
            ${title} ${name && html`<small>${known.counts[name]}</small>`}
          </button>`,
        )}
      </div>
      <button type="button" class="plain end" onClick=${() => setAsks(true)} disabled=${!finished}>Clear finished</button>
    </div>
    <${Filters} known=${known} filter=${filter} filtered=${filtered} choose=${choose} search=${search} />
    ${asks &&
    html`<${Confirm}
      title=${`Clear ${finished} finished deliveries?`}
      text="What was sent and answered is forgotten for good. What is pending stays."
      yes="Clear them"
      no="Keep them"
      answered=${clear}
    />`}
    ${!view && html`<p class="quiet busy">Loading</p>`}
    ${view && (rows.length > 0 || chosen
      ? html`<${Strip} rows=${rows} address=${address} />
        <div class=${`split ${chosen ? "open" : ""}`}>
          <div class="card flush">
            <${List} rows=${rows} total=${view.total} chosen=${chosen} cursor=${cursor} address=${address} need=${more} move=${move} />
          </div>
          ${chosen && html`<${Detail} key=${chosen} id=${chosen} listen=${listen} say=${say} address=${address} />`}
        </div>
        <p class="quiet keys"><kbd>j</kbd> <kbd>k</kbd> next and previous, <kbd>Enter</kbd> opens, <kbd>Esc</kbd> closes, <kbd>/</kbd> searches</p>`
      : html`<${Empty} known=${known} filtered=${filtered} />`)}
  `;
}

function Empty({ known, filtered }) {
  const total = Object.values(known.counts).reduce((a, b) => a + b, 0);
  if (filtered && total) {
    return html`<div class="empty"><h2>Nothing selected</h2><p><a href="#/deliveries">All ${total} deliveries</a></p></div>`;
  }
  const [title, text] = known.latest
    ? ["Nothing left", `${known.latest} were made so far; those that were finished have been cleared.`]
    : ["Nothing sent yet", ""];
  return html`<div class="empty">
    <h2>${title}</h2>
    <p>${text} <a href="#/send">Send an event</a>, or let the organization live.</p>
  </div>`;
}

function Filters({ known, filter, filtered, choose, search }) {
  const [entity, setEntity] = useState(filter.entity);
  useEffect(() => setEntity(filter.entity), [filter.entity]);
  useEffect(() => {
    const timer = setTimeout(() => entity !== filter.entity && choose({ entity }), PAUSE);
    return () => clearTimeout(timer);
  }, [entity]);
  const types = useMemo(
    () => known.categories.flatMap((category) => ["*", ...known.operations].map((operation) => `${category}.${operation}`)),
    [known.categories],
  );
  // What was put into the address by hand is one of the choices as well.
  const offered = (choices, value) => (value && !choices.includes(value) ? [...choices, value] : choices);
  const select = (name, label, choices, title) => html`
    <select aria-label=${label} value=${filter[name]} onChange=${(event) => choose({ [name]: event.target.value })}>
      ${offered(choices, filter[name]).map((value) => html`<option key=${value} value=${value}>${title(value)}</option>`)}
    </select>
  `;
  return html`
    <div class="filters" role="search" aria-label="Filter the deliveries">
      ${select("type", "Type", ["", ...types], (value) => value || "any event")}
      <input
        ref=${search}
        type="search"
        aria-label="Entity"
        aria-keyshortcuts="/"
        placeholder="part of the entity’s path"
        spellcheck="false"
        value=${entity}
        onInput=${(event) => setEntity(event.target.value)}
      />
      ${select("status", "Answer", Object.keys(STATUSES), (value) => STATUSES[value] ?? value)}
      ${filtered && html`<a class="button plain" href="#/deliveries">Show all</a>`}
    </div>
  `;
}

function Detail({ id, listen, say, address }) {
  const [delivery, setDelivery] = useState(null);
  const [missing, setMissing] = useState("");
  const heading = useRef(null);
  useEffect(() => {
    let current = true;
    // What changes is asked for anew, so there is nothing to put on top of an answer.
    const state = live(() => ask("GET", `api/deliveries/${id}`), (found) => found, (found) => current && setDelivery(found));
    const load = () => state.reload().catch((error) => current && setMissing(error.message));
    load();
    const stop = listen((changes) => (`delivery ${id}` in changes || changes.missed) && load());
    return () => ((current = false), stop());
  }, [id]);
  useLayoutEffect(() => heading.current?.focus(), [delivery !== null]);

  if (missing) return html`<section class="card"><p class="quiet">${missing} <a href=${address({ delivery: null })}>Close</a></p></section>`;
  if (!delivery) return html`<section class="card"><p class="quiet busy">Loading</p></section>`;
  const again = () =>
    ask("POST", `api/deliveries/${id}/again`, {}).then(
      ({ deliveries }) => (location.hash = address({ delivery: deliveries[0] })),
      (error) => say(error.message, true),
    );
  const pending = delivery.state === "pending";
  return html`
    <section class="card detail" aria-labelledby="detail-title">
      <div class="row top">
        <h2 id="detail-title" ref=${heading} tabindex="-1">#${id} <${Name} text=${delivery.type || "no event"} /></h2>
        <a class="end" href=${address({ delivery: null })} aria-label="Close" aria-keyshortcuts="Escape">Close</a>
      </div>
      <p class="row tight">
        <${Status} delivery=${delivery} />
        ${pending && delivery.attempts > 0 && html`<span class="quiet">next attempt at ${time(delivery.due)}</span>`}
        ${delivery.error && html`<span class="quiet">${visible(delivery.error)}</span>`}
      </p>
      <p class="quiet"><${Middle} text=${delivery.entity} /></p>
      <div class="row">
        <button type="button" class="primary again" onClick=${again}>${pending ? "Try now" : "Send again"}</button>
        <a class="button" href=${`#/send?delivery=${id}`}>Edit and send</a>
      </div>
      <${Diff} body=${delivery.body} />
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

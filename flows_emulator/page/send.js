// Send: an event as it happens or as one writes it, all of them, many, and those that misbehave.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-standalone.js";
import { ask } from "./api.js";
import { pretty, visible } from "./text.js";

const CHECKED = 2_000_000;

export function Send({ known, query, say, draft, setDraft, wishes }) {
  const active = known.integrations.filter((integration) => !integration.softRemoved && integration.status === "active");
  const ticked = new Set(active.flatMap((integration) => integration.events));
  if (!active.length) {
    return html`<div class="empty">
      <h2>Nobody to send to</h2>
      <p>Events go to active integrations. <a href="#/settings/integrations">Add one</a> first.</p>
    </div>`;
  }
  return html`
    <div class="columns">
      <${Editor} known=${known} ticked=${ticked} query=${query} say=${say} draft=${draft} setDraft=${setDraft} wishes=${wishes} />
      <div class="stack">
        <${Everything} ticked=${ticked} say=${say} />
        <${Stream} known=${known} say=${say} />
        <${Life} known=${known} say=${say} />
      </div>
    </div>
  `;
}

function Editor({ known, ticked, query, say, draft, setDraft, wishes }) {
  const types = known.categories.flatMap((category) => known.operations.map((operation) => `${category}.${operation}`));
  const [manner, setManner] = useState("");
  const [sent, setSent] = useState([]);
  const [busy, setBusy] = useState(false);
  const form = useRef(null);
  const type = draft?.type ?? types.find((name) => ticked.has(name)) ?? types[0];
  // Answers may overtake each other, and outlive the editor that asked: the last wish counts, and what was
  // written since is not written over.
  const rendered = wishes.current;
  const change = (part) => {
    wishes.current++;
    setDraft({ type, body: draft?.body ?? "", ...part });
  };
  const fetchDraft = (path, toDraft) => {
    const wish = ++wishes.current;
    return ask("GET", path).then(
      (found) => wish === wishes.current && setDraft(toDraft(found)),
      (error) => say(error.message, true),
    );
  };
  const propose = (name) =>
    fetchDraft(`api/events/${name}`, (event) => ({ type: name, body: JSON.stringify(event, null, 2), fresh: true }));

  useEffect(() => {
    const again = query.get("delivery");
    if (again && draft?.from !== again) {
      fetchDraft(`api/deliveries/${encodeURIComponent(again)}`, (delivery) => ({
        type: delivery.type || type,
        body: pretty(delivery.body),
        from: again,
      }));
    } else if (!draft && wishes.current === rendered) {
      // Unless somebody was quicker: effects run after the page is painted.
      propose(type);
    }
  }, [query]);

  async function send(event) {
    event.preventDefault();
    if (!draft) return;
    setBusy(true);
    try {
      const wish = manner === "stale" ? { type, manner } : { body: draft.body, manner };
      const { deliveries } = await ask("POST", "api/deliveries", wish);
      setSent(deliveries);
      // What has happened can't happen again: the next one is another.
      if (draft?.fresh) propose(type);
    } catch (error) {
      say(error.message, true);
    } finally {
      setBusy(false);
    }
  }

  const problem = mistake(draft?.body ?? "");
  const stale = manner === "stale";
  const about = known.manners.find(({ name }) => name === manner);
  return html`
    <form class="card" ref=${form} onSubmit=${send}>
      <div class="row">
        <div class="field grow">
          <label for="event-type">Event</label>
          <select id="event-type" value=${type} onChange=${(event) => propose(event.target.value)}>
            ${known.categories.map(
              (category) => html`<optgroup key=${category} label=${known.labels[category]}>
                ${known.operations.map((operation) => {
                  const name = `${category}.${operation}`;
                  return html`<option key=${name} value=${name}>${name}${ticked.has(name) ? "" : " (not ticked)"}</option>`;
                })}
              </optgroup>`,
            )}
          </select>
        </div>
        <button type="button" class="bottom" onClick=${() => propose(type)}>Another one</button>
      </div>
      <div class="field">
        <label for="event-body">Body</label>
        <textarea
          id="event-body"
          class="code"
          rows="20"
          spellcheck="false"
          dir="ltr"
          disabled=${stale}
          value=${draft?.body ?? ""}
          aria-describedby="event-note"
          onInput=${(event) => change({ body: event.target.value, fresh: false })}
          onKeyDown=${(event) => {
            if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.current.requestSubmit();
          }}
        ></textarea>
        <small id="event-note" class=${problem && !stale ? "warn" : "quiet"}>
          ${stale ? "The emulator makes both events." : problem || "Sent as it is here; Ctrl+Enter sends."}
        </small>
      </div>
      <div class="field">
        <label for="manner">Manner</label>
        <select id="manner" value=${manner} aria-describedby="manner-note" onChange=${(event) => setManner(event.target.value)}>
          ${known.manners.map(({ name, title }) => html`<option key=${name} value=${name}>${title}</option>`)}
        </select>
        <small id="manner-note" class="quiet">${about?.meaning}</small>
      </div>
      <div class="row actions">
        <button type="submit" class="primary" disabled=${busy || !draft} aria-keyshortcuts="Control+Enter">Send</button>
        <${Sent} known=${known} ids=${sent} />
      </div>
    </form>
  `;
}

function mistake(text) {
  if (text.length > CHECKED) return "";
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return `Not JSON: ${visible(error.message)}`;
  }
}

function Sent({ known, ids }) {
  if (!ids.length) return null;
  return html`<p class="row tight" role="status">
    ${ids.map((id) => {
      const delivery = known.deliveries.find((item) => item.id === id);
      return html`<a key=${id} href=${`#/deliveries?delivery=${id}`} class=${`pill ${delivery?.state ?? ""}`}>
        #${id} ${delivery?.status || (delivery?.attempts ? "no answer" : "under way")}
      </a>`;
    })}
  </p>`;
}

function Everything({ ticked, say }) {
  const send = () =>
    ask("POST", "api/deliveries/all", {}).then(
      ({ deliveries }) => say(`${deliveries.length} deliveries are on their way.`),
      (error) => say(error.message, true),
    );
  return html`
    <section class="card" aria-labelledby="all-title">
      <h2 id="all-title">All that are ticked</h2>
      <p class="quiet">One event of each of the ${ticked.size} ticked types, in a row.</p>
      <button type="button" onClick=${send} disabled=${!ticked.size}>Send all</button>
    </section>
  `;
}

function Stream({ known, say }) {
  const [count, setCount] = useState("100");
  const [rate, setRate] = useState("10");
  const stream = known.streams.stream;
  const start = (event) => {
    event.preventDefault();
    ask("PUT", "api/streams/stream", { count: Number(count), rate: Number(rate) }).catch((error) => say(error.message, true));
  };
  const stop = () => ask("DELETE", "api/streams/stream").catch((error) => say(error.message, true));
  return html`
    <form class="card" aria-labelledby="stream-title" onSubmit=${start}>
      <h2 id="stream-title">A stream</h2>
      <div class="row">
        <div class="field">
          <label for="stream-count">Events</label>
          <input id="stream-count" type="number" min="1" max="1000000" required value=${count} onInput=${(event) => setCount(event.target.value)} />
        </div>
        <div class="field">
          <label for="stream-rate">A second</label>
          <input id="stream-rate" type="number" min="0.1" max="1000" step="any" required value=${rate} onInput=${(event) => setRate(event.target.value)} />
        </div>
      </div>
      <div class="row">
        ${stream?.running
          ? html`<button type="button" onClick=${stop}>Stop</button>`
          : html`<button type="submit">Start</button>`}
        ${stream &&
        html`<progress class="grow" aria-label="Events of the stream" max=${stream.count} value=${stream.sent}></progress>
          <span class="quiet number">${stream.sent} of ${stream.count}</span>`}
      </div>
    </form>
  `;
}

function Life({ known, say }) {
  const [rate, setRate] = useState("1");
  const life = known.streams.life;
  const turn = (on, speed) =>
    ask(on ? "PUT" : "DELETE", "api/streams/life", on ? { rate: Number(speed) } : undefined).catch((error) => say(error.message, true));
  return html`
    <section class="card" aria-labelledby="life-title">
      <h2 id="life-title">Let it live</h2>
      <p class="quiet">People move packets, write comments and change their minds, until you stop them.</p>
      <div class="row">
        <label class="check">
          <input type="checkbox" role="switch" class="switch" checked=${life?.running ?? false} onChange=${(event) => turn(event.target.checked, rate)} />
          ${life?.running ? "It lives" : "Let it live"}
        </label>
        <label class="end row tight" for="life-rate">
          <span class="quiet">How fast</span>
          <select
            id="life-rate"
            value=${rate}
            onChange=${(event) => {
              setRate(event.target.value);
              if (life?.running) turn(true, event.target.value);
            }}
          >
            <option value="0.2">every 5 s</option>
            <option value="1">every second</option>
            <option value="10">10 a second</option>
          </select>
        </label>
      </div>
      ${life && html`<p class="quiet">${life.sent} events so far</p>`}
    </section>
  `;
}

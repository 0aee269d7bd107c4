// The list of deliveries: of ten thousand rows only those are in the document that are near what is seen.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact-standalone.js";
import { Middle, time, visible } from "./text.js";

// Rows above and below what is seen, and how many at a time come and go.
const AROUND = 16;
const STEP = 8;

// Which of `count` rows of the table are near what is seen, and `show(index)`, which scrolls to one.
function useVisibleRows(table, count, layout) {
  const [range, setRange] = useState({ first: 0, last: 4 * AROUND, height: 0 });
  const measure = () => {
    const body = table.current?.tBodies[0];
    if (!body) return null;
    return { height: parseFloat(getComputedStyle(body).getPropertyValue("--row")), top: body.getBoundingClientRect().top };
  };
  const look = () => {
    const { height, top } = measure() ?? {};
    if (!height) return;
    const steps = (pixels, round) => round(pixels / height / STEP) * STEP;
    const first = Math.max(0, steps(-top, Math.floor) - AROUND);
    const last = Math.max(first, steps(innerHeight - top, Math.ceil) + AROUND);
    setRange((before) => (before.first === first && before.last === last && before.height === height ? before : { first, last, height }));
  };
  useEffect(() => {
    addEventListener("scroll", look, { passive: true });
    addEventListener("resize", look);
    return () => (removeEventListener("scroll", look), removeEventListener("resize", look));
  }, []);
  useLayoutEffect(look, [count, layout]);
  const show = (index) => {
    const { height, top } = measure();
    const above = top + index * height;
    // The row of headings sticks to the top.
    if (above < height) scrollBy(0, above - height);
    else if (above + height > innerHeight) scrollBy(0, above + 2 * height - innerHeight);
    look();
  };
  return { ...range, show };
}

// `cursor` is the delivery that the keyboard is at; `need(index)` asks for rows that are not there yet.
export function List({ rows, total, chosen, cursor, address, need, move }) {
  const table = useRef(null);
  const { first, last, height, show } = useVisibleRows(table, total, Boolean(chosen));
  useEffect(() => {
    if (last > rows.length) need();
  }, [last > rows.length, rows.length]);
  const wanted = useRef(null);
  useLayoutEffect(() => {
    const index = cursor ? rows.findIndex(({ id }) => id === cursor.id) : -1;
    if (index < 0) return;
    wanted.current = cursor.id;
    show(index);
  }, [cursor]);
  // With every rendering, for the row may come into the document with a later one.
  useLayoutEffect(() => {
    const link = wanted.current && table.current.querySelector(`a[data-id="${wanted.current}"]`);
    if (!link) return;
    wanted.current = null;
    link.focus({ preventScroll: true });
  });
  const arrows = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    move(step);
  };
  const seen = rows.slice(first, last);
  return html`
    <table class="list" ref=${table} aria-rowcount=${total + 1} onKeyDown=${arrows}>
      <thead>
        <tr aria-rowindex="1">
          <th scope="col" class="clock">Time</th>
          <th scope="col" class="event">Event</th>
          <th scope="col" class="entity">Entity</th>
          <th scope="col" class="answer">Status</th>
          <th scope="col" class="number took">ms</th>
          <th scope="col" class="number tries">Attempts</th>
        </tr>
      </thead>
      <tbody>
        <${Space} pixels=${Math.min(first, total) * height} key="above" />
        ${seen.map(
          (delivery, index) => html`<${Row}
            key=${delivery.id}
            delivery=${delivery}
            index=${first + index + 2}
            chosen=${delivery.id === chosen}
            to=${address({ delivery: delivery.id })}
          />`,
        )}
        <${Space} pixels=${Math.max(0, total - first - seen.length) * height} key="below" />
      </tbody>
    </table>
  `;
}

// Stands for rows that are not in the document.
function Space({ pixels }) {
  return pixels > 0 && html`<tr class="space" aria-hidden="true"><td style=${{ height: `${pixels}px` }}></td></tr>`;
}

function Row({ delivery, index, chosen, to }) {
  const { attempts, manner } = delivery;
  const fault = manner && html` <small class="pill">${manner}</small>`;
  return html`
    <tr class=${chosen ? "chosen" : ""} aria-rowindex=${index} onClick=${() => (location.hash = to)}>
      <td class="number clock">${time(delivery.created)}</td>
      <td class="event">
        <a href=${to} data-id=${delivery.id} aria-current=${chosen ? "true" : undefined}><bdi>${visible(delivery.type || "no event")}</bdi></a>
        <span class="beside">${fault}</span>
        <small class="below quiet"><span class="number">${time(delivery.created)}</span>${fault}<${Middle} text=${delivery.entity} /></small>
      </td>
      <td class="entity"><${Middle} text=${delivery.entity} /></td>
      <td class="answer"><${Status} delivery=${delivery} />${attempts > 1 && html`<small class="below quiet"> ${attempts} attempts</small>`}</td>
      <td class="number took">${attempts ? delivery.milliseconds.toFixed(1) : ""}</td>
      <td class="number tries">${attempts}</td>
    </tr>
  `;
}

export function Status({ delivery }) {
  const { state, status, attempts } = delivery;
  const text = status || (attempts ? "no answer" : "–");
  const word = state === "pending" ? (attempts ? "will be retried" : "under way") : state;
  return html`<span class=${`pill ${state}`} title=${word}>${text}<span class="unseen">, ${visible(word)}</span></span>`;
}

// Failures on command: what the next requests to an endpoint get instead of a response, or in addition.

import { setTimeout as sleep } from 'node:timers/promises';

import { state } from './state.mjs';

// Takes the next failure ordered for `endpoint` that fits `{ client, tenant, grant }`, or undefined.
export function take(endpoint, facts = {}) {
  const queue = state.failures[endpoint];
  const index = queue.findIndex((failure) => ['client', 'tenant', 'grant']
    .every((name) => failure[name] == null || failure[name] === facts[name]));
  if (index < 0) return undefined;
  const failure = queue[index];
  failure.count -= 1;
  if (failure.count <= 0) queue.splice(index, 1);
  return failure;
}

// Produces a failure; returns whether this ends the request. `said` contains every text of the request.
export async function play(failure, ctx, said = []) {
  switch (failure?.kind) {
    case 'hang':
      await new Promise((resolve) => { ctx.res.once('close', resolve); });
      ctx.respond = false;
      return true;
    case 'status':
      ctx.status = failure.status;
      if (failure.retry_after !== null) ctx.set('Retry-After', failure.retry_after);
      ctx.type = failure.body.trimStart().startsWith('{') ? 'json' : 'html';
      ctx.body = failure.body;
      return true;
    case 'echo': {
      const quoted = said.map((text) => `${text} ${encodeURIComponent(text)}`).join(' ');
      ctx.status = 400;
      ctx.type = 'json';
      ctx.body = {
        error: 'invalid_request',
        error_description: `Not understood: ${quoted}`,
        correlation_id: said.at(-1) ?? null,
      };
      return true;
    }
    case 'large':
      ctx.status = 200;
      ctx.type = 'json';
      ctx.body = `{"access_token":"${'x'.repeat(failure.bytes)}","token_type":"Bearer"}`;
      return true;
    case 'delay':
      await sleep(failure.millis);
      return false;
    default:
      return false;
  }
}

// Called after the request was processed: drops the response if that was ordered, and returns whether it did.
export function lose(failure, ctx) {
  if (failure?.kind !== 'answer_lost') return false;
  ctx.respond = false;
  ctx.req.socket.destroy();
  return true;
}

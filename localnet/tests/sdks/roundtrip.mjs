// Deploys, calls and reads back with the official JavaScript SDK. Arguments: RPC URL, passphrase, friendbot URL, wasm file.
// Prints "ok" at the end; any surprise is an exception.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import {
  Address, BASE_FEE, Contract, Keypair, Networks, Operation, TransactionBuilder, nativeToScVal, rpc, scValToNative, xdr,
} from "@stellar/stellar-sdk";

const [url, passphrase, friendbot, wasmFile] = process.argv.slice(2);
const server = new rpc.Server(url, { allowHttp: true });
const alice = Keypair.random();
const u32 = (value) => nativeToScVal(value, { type: "u32" });

async function build(operation) {
  const source = await server.getAccount(alice.publicKey());
  return new TransactionBuilder(source, { fee: BASE_FEE, networkPassphrase: passphrase })
    .addOperation(operation).setTimeout(60).build();
}

async function send(operation) {
  const transaction = await server.prepareTransaction(await build(operation));
  transaction.sign(alice);
  const sent = await server.sendTransaction(transaction);
  assert.equal(sent.status, "PENDING");
  const done = await server.pollTransaction(sent.hash);
  assert.equal(done.status, "SUCCESS");
  return done;
}

const funded = await fetch(`${friendbot}?addr=${alice.publicKey()}`);
assert.equal(funded.status, 200);
assert.equal((await server.getHealth()).status, "healthy");
assert.equal((await server.getNetwork()).passphrase, passphrase);
assert.equal(passphrase, Networks.STANDALONE);
assert.equal((await server.getVersionInfo()).protocolVersion, 28);

const wasm = await readFile(wasmFile);
const uploaded = await send(Operation.uploadContractWasm({ wasm }));
const wasmHash = Buffer.from(scValToNative(uploaded.returnValue));
const created = await send(Operation.createCustomContract({
  address: Address.fromString(alice.publicKey()), wasmHash, constructorArgs: [u32(42)],
}));
const id = scValToNative(created.returnValue);
const contract = new Contract(id);

async function get(key) {
  const simulated = await server.simulateTransaction(await build(contract.call("get", u32(key))));
  assert.ok(rpc.Api.isSimulationSuccess(simulated), simulated.error);
  return scValToNative(simulated.result.retval);
}

assert.equal(await get(1000000), 42);
const put = await send(contract.call("put", u32(1), u32(7)));
assert.equal(await get(1), 7);

const filters = [{ type: "contract", contractIds: [id], topics: [[u32(1).toXDR("base64")]] }];
const events = await server.getEvents({ startLedger: put.ledger, filters, limit: 10 });
assert.deepEqual(events.events.map((event) => scValToNative(event.value)), [7]);
assert.equal(events.events[0].txHash, put.txHash);
assert.deepEqual((await server.getEvents({ cursor: events.cursor, filters, limit: 10 })).events, []);

const entry = await server.getContractData(id, u32(1), rpc.Durability.Persistent);
assert.ok(entry.liveUntilLedgerSeq > put.ledger);
assert.equal((await server.getTransaction("00".repeat(32))).status, "NOT_FOUND");
const page = await server.getTransactions({ startLedger: put.ledger, pagination: { limit: 5 } });
assert.equal(page.transactions[0].txHash, put.txHash);
const ledgers = await server.getLedgers({ startLedger: put.ledger, pagination: { limit: 1 } });
assert.equal(ledgers.ledgers[0].sequence, put.ledger);
assert.equal((await server.getFeeStats()).sorobanInclusionFee.max, "100");
assert.ok((await server.getLatestLedger()).sequence >= put.ledger);
const wasmBack = await server.getContractWasmByContractId(id);
assert.ok(Buffer.from(wasmBack).equals(wasm));
await assert.rejects(server.prepareTransaction(await build(contract.call("trap"))));
console.log("ok");

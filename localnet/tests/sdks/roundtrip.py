"""Deploys, calls and reads back with the official Python SDK. Arguments: RPC URL, passphrase, friendbot URL, wasm file.

Prints "ok" at the end; any surprise is an exception.
"""

import sys
import urllib.request

from stellar_sdk import Keypair, Network, SorobanServer, TransactionBuilder, scval, xdr
from stellar_sdk import soroban_rpc as rpc
from stellar_sdk.exceptions import PrepareTransactionException

url, passphrase, friendbot, wasm = sys.argv[1:]
server = SorobanServer(url)
alice = Keypair.random()


def builder():
    source = server.load_account(alice.public_key)
    return TransactionBuilder(source, passphrase, base_fee=100).set_timeout(60)


def send(transaction):
    transaction.sign(alice)
    sent = server.send_transaction(transaction)
    assert sent.status == rpc.SendTransactionStatus.PENDING, sent
    done = server.poll_transaction(sent.hash)
    assert done.status == rpc.GetTransactionStatus.SUCCESS, done
    meta = xdr.TransactionMeta.from_xdr(done.result_meta_xdr)
    return done, meta.v4.soroban_meta.return_value if meta.v4.soroban_meta else None


def main():
    with urllib.request.urlopen(f"{friendbot}?addr={alice.public_key}", timeout=30) as reply:
        assert reply.status == 200
    assert server.get_health().status == "healthy"
    assert server.get_network().passphrase == passphrase
    assert server.get_version_info().protocol_version == 28
    assert passphrase == Network.STANDALONE_NETWORK_PASSPHRASE

    with open(wasm, "rb") as file:
        code = file.read()
    upload = server.prepare_transaction(builder().append_upload_contract_wasm_op(code).build())
    _, wasm_id = send(upload)
    create = builder().append_create_contract_op(
        wasm_id=bytes(wasm_id.bytes.sc_bytes), address=alice.public_key, constructor_args=[scval.to_uint32(42)]
    )
    _, address = send(server.prepare_transaction(create.build()))
    contract = scval.from_address(address).address

    def call(name, *args):
        return builder().append_invoke_contract_function_op(contract, name, list(args)).build()

    def get(key):
        simulated = server.simulate_transaction(call("get", scval.to_uint32(key)))
        assert simulated.error is None, simulated.error
        return scval.from_uint32(simulated.results[0].xdr)

    assert get(1_000_000) == 42
    first, _ = send(server.prepare_transaction(call("put", scval.to_uint32(1), scval.to_uint32(7))))
    assert get(1) == 7

    wanted = rpc.EventFilter(
        event_type=rpc.EventFilterType.CONTRACT,
        contract_ids=[contract],
        topics=[[scval.to_uint32(1).to_xdr()]],
    )
    events = server.get_events(first.ledger, filters=[wanted], limit=10)
    assert [scval.from_uint32(event.value) for event in events.events] == [7]
    assert events.events[0].transaction_hash == first.transaction_hash
    assert server.get_events(cursor=events.cursor, filters=[wanted]).events == []

    key = xdr.LedgerKey.from_xdr(
        server.get_ledger_entries([contract_data_key(contract)]).entries[0].key
    )
    assert key == contract_data_key(contract)
    missing = server.get_transaction("00" * 32)
    assert missing.status == rpc.GetTransactionStatus.NOT_FOUND
    page = server.get_transactions(start_ledger=first.ledger, limit=5)
    assert page.transactions[0].transaction_hash == first.transaction_hash
    assert server.get_ledgers(start_ledger=first.ledger, limit=1).ledgers[0].sequence == first.ledger
    assert int(server.get_fee_stats().soroban_inclusion_fee.max) == 100

    try:
        server.prepare_transaction(call("trap"))
    except PrepareTransactionException:
        pass
    else:
        raise AssertionError("a trap was prepared")
    print("ok")


def contract_data_key(contract):
    from stellar_sdk import Address

    return xdr.LedgerKey(
        xdr.LedgerEntryType.CONTRACT_DATA,
        contract_data=xdr.LedgerKeyContractData(
            contract=Address(contract).to_xdr_sc_address(),
            key=scval.to_uint32(1),
            durability=xdr.ContractDataDurability.PERSISTENT,
        ),
    )


main()

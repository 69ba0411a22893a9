//! Calls as strangers make them: with the signatures they have, and no others.

use soroban_sdk::{Address, Env, Error, InvokeError, Symbol, Val, Vec, xdr};

use crate::Key;

/// A call of a contract.
#[derive(Clone)]
pub struct Call {
    /// The contract.
    pub contract: Address,
    /// Its function.
    pub function: &'static str,
    /// The function's arguments.
    pub args: Vec<Val>,
    /// The payment that the first signer agrees to with the call, if it makes one.
    pub payment: Option<Payment>,
}

/// A transfer of a token that a call makes on behalf of its caller.
#[derive(Clone)]
pub struct Payment {
    /// The token's contract.
    pub token: Address,
    /// From, to, amount.
    pub args: Vec<Val>,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It went through.
    Done,
    /// The contract refused it with this code.
    Refused(u32),
    /// The host stopped it, as for a missing signature.
    Stopped,
}

/// Whether a call went through; it may be refused, but not break.
///
/// # Panics
/// When it broke.
pub fn went_through<T, C, E>(outcome: Result<Result<T, C>, Result<E, InvokeError>>) -> bool {
    assert!(!matches!(outcome, Err(Err(InvokeError::Abort))), "a call broke off");
    outcome.is_ok()
}

impl Call {
    /// Makes the call with the signatures of `signers`; the first one's covers the payment.
    pub fn signed_by(&self, env: &Env, signers: &[&Key]) -> Outcome {
        let nonce = |index: usize| {
            let mut words = [0; 8];
            words[..4].copy_from_slice(&env.ledger().sequence().to_be_bytes());
            words[4..].copy_from_slice(&u32::try_from(index).expect("few signers").to_be_bytes());
            i64::from_be_bytes(words)
        };
        let entries: std::vec::Vec<_> = (0..)
            .zip(signers)
            .map(|(index, signer)| {
                let payment = self.payment.as_ref().filter(|_| index == 0);
                signer.authorise(env, nonce(index), self.invocation(payment))
            })
            .collect();
        env.set_auths(&entries);
        self.outcome(env)
    }

    /// Asserts that the call fails without signatures, with a stranger's, and with any of the needed ones missing or
    /// replaced by the stranger's, and that it goes through with all of them.
    ///
    /// # Panics
    /// When it is otherwise.
    pub fn needs(&self, env: &Env, signers: &[&Key], stranger: &Key) {
        assert_eq!(self.signed_by(env, &[]), Outcome::Stopped, "{} without signature", self.function);
        for missing in 0..signers.len() {
            let mut others = signers.to_vec();
            others[missing] = stranger;
            assert_eq!(self.signed_by(env, &others), Outcome::Stopped, "{} by a stranger", self.function);
            others.remove(missing);
            assert_eq!(self.signed_by(env, &others), Outcome::Stopped, "{} without one", self.function);
        }
        assert_eq!(self.signed_by(env, signers), Outcome::Done, "{}", self.function);
    }

    /// Makes the call with whatever authorisation the environment has.
    pub fn outcome(&self, env: &Env) -> Outcome {
        let function = Symbol::new(env, self.function);
        match env.try_invoke_contract::<Val, Error>(&self.contract, &function, self.args.clone()) {
            Ok(_) => Outcome::Done,
            Err(Ok(error)) if error.is_type(xdr::ScErrorType::Contract) => Outcome::Refused(error.get_code()),
            Err(_) => Outcome::Stopped,
        }
    }

    fn invocation(&self, payment: Option<&Payment>) -> xdr::SorobanAuthorizedInvocation {
        let payments: std::vec::Vec<_> = payment
            .map(|Payment { token, args }| invocation(token, "transfer", args, std::vec::Vec::new()))
            .into_iter()
            .collect();
        invocation(&self.contract, self.function, &self.args, payments)
    }
}

fn invocation(
    contract: &Address,
    function: &str,
    args: &Vec<Val>,
    below: std::vec::Vec<xdr::SorobanAuthorizedInvocation>,
) -> xdr::SorobanAuthorizedInvocation {
    let xdr::ScVal::Vec(Some(args)) = xdr::ScVal::from(args) else { unreachable!("a vector is a vector") };
    xdr::SorobanAuthorizedInvocation {
        function: xdr::SorobanAuthorizedFunction::ContractFn(xdr::InvokeContractArgs {
            contract_address: contract.into(),
            function_name: xdr::ScSymbol(function.try_into().expect("a symbol")),
            args: args.0,
        }),
        sub_invocations: below.try_into().expect("one payment at most"),
    }
}

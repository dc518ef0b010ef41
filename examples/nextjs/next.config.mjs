export default { serverExternalPackages: ["@nats-io/transport-node"] };

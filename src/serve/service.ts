// ocicrypt's gRPC service as its clients call it (utils/keyprovider/keyprovider.proto): bytes in, bytes out. Only
// serve and doctor load it.

import type { MethodDefinition } from "@grpc/grpc-js";
import protobuf from "protobufjs/minimal.js";
import { requestError } from "../errors.ts";

const FIELD = 1; // the one field of both messages, of type bytes
const LENGTH_DELIMITED = 2; // its wire type

/** The most bytes that a message may have: gRPC's own default. */
export const MAX_MESSAGE = 4 * 1024 * 1024;

const asItIs = (bytes: Buffer): Buffer => bytes;

function method(name: string): MethodDefinition<Buffer, Buffer> {
  return {
    path: `/keyprovider.KeyProviderService/${name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: asItIs,
    requestDeserialize: asItIs,
    responseSerialize: asItIs,
    responseDeserialize: asItIs,
  };
}

/** The two methods. Messages are not parsed here, so that a malformed one is answered, logged and audited as well. */
export const SERVICE = { WrapKey: method("WrapKey"), UnWrapKey: method("UnWrapKey") } as const;

/** A message with JSON in it; requests and answers have the same form. */
export function encodeMessage(json: string): Buffer {
  return Buffer.from(
    protobuf.Writer.create()
      .uint32((FIELD << 3) | LENGTH_DELIMITED)
      .bytes(Buffer.from(json))
      .finish(),
  );
}

/**
 * The JSON in a message, or no bytes if it has none.
 *
 * @throws KeystoreError `request` if it is not a protobuf message
 */
export function decodeMessage(message: Buffer): Uint8Array {
  let json: Uint8Array = Buffer.alloc(0);
  try {
    for (const reader = protobuf.Reader.create(message); reader.pos < reader.len;) {
      const tag = reader.uint32();
      if (tag === ((FIELD << 3) | LENGTH_DELIMITED)) json = reader.bytes();
      else reader.skipType(tag & 7);
    }
    return json;
  } catch {
    throw requestError("the gRPC message is malformed", "it must be as in ocicrypt's keyprovider.proto");
  }
}

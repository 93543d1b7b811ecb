// Frames of peers and of store clients: any bytes decode to a value or an error, and a value encodes again.
#include <cstdint>

#include "store/raft/codec.hpp"
#include "store/transport/client_wire.hpp"
#include "store/transport/peer_wire.hpp"

using namespace orchestra::store;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (auto message = decode_message(bytes)) (void)encode_message(*message);
  if (auto configuration = decode_configuration(bytes)) (void)encode_configuration(*configuration);
  if (auto hello = decode_hello(bytes)) (void)encode_hello(*hello);
  if (auto answer = decode_hello_answer(bytes)) (void)encode_hello_answer(*answer);
  if (auto request = decode_request(bytes)) (void)encode_request(*request);
  if (auto answer = decode_answer(bytes)) (void)encode_answer(*answer);
  if (auto chunk = decode_chunk(bytes)) (void)encode_chunk(*chunk);
  (void)decode_chunk_answer(bytes);
  (void)check_client_hello(bytes);
  (void)decode_server_hello(bytes);
  (void)decode_call(bytes);
  (void)decode_server_frame(bytes);
  if (size > 0) (void)decode_error(bytes);
  Reader in(bytes);
  (void)read_key_range(in);
  (void)read_options(in);
  (void)read_range_result(in);
  Reader again(bytes);
  (void)read_batch(again);
  Reader third(bytes);
  (void)read_status(third);
  Reader fourth(bytes);
  (void)read_txn_result(fourth);
  return 0;
}

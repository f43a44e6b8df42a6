// Prints what XRT understands of an xclbin; fails when it refuses the file.
#include <cstdio>
#include <exception>
#include <iostream>

#include <experimental/xrt_xclbin.h>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    xrt::xclbin xclbin{std::string(argv[1])};
    std::cout << "uuid " << xclbin.get_uuid().to_string() << "\n";
    for (const auto& kernel : xclbin.get_kernels()) {
      std::cout << "kernel " << kernel.get_name() << "\n";
      for (const auto& arg : kernel.get_args()) {
        std::cout << "arg " << arg.get_name() << " " << arg.get_offset() << " " << arg.get_size()
                  << "\n";
      }
      for (const auto& unit : kernel.get_cus()) std::cout << "unit " << unit.get_name() << "\n";
    }
    for (const auto& memory : xclbin.get_mems()) {
      std::cout << "memory " << memory.get_tag() << " " << memory.get_base_address() << " "
                << memory.get_size_kb() << "\n";
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
